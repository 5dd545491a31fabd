//! The wire protocol's proof: the code, docs/protocol.md and `imgsys.cddl` say the same.
//!
//! | module | holds |
//! |---|---|
//! | `round_trip` | any value of each message comes back from its bytes, also from a torn stream |
//! | `golden` | the bytes of version 1 are what they were |
//! | `grammar` | each message is valid by `imgsys.cddl`, and what is not is refused by both |
//! | `lenient` | what a reader takes although no writer of version 1 writes it |
//! | `hostile` | bytes that lie cost nothing and get the right error |
//! | `document` | docs/protocol.md's tables and examples are true |
//! | `support` | strategies, fixed values, streams |

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod document;
mod golden;
mod grammar;
mod hostile;
mod lenient;
mod round_trip;
mod support;
