//! The Lua scripts: whatever must happen as a whole, or by Redis's own clock.
//!
//! Each says its KEYS and ARGV at its top. They never look into JSON.

use redis::Script;
use std::sync::LazyLock;

/// The finishing script's text, which is also sent by itself.
pub(crate) const FINISH_TEXT: &str = include_str!("lua/finish.lua");
pub(crate) static FINISH: LazyLock<Script> = LazyLock::new(|| Script::new(FINISH_TEXT));

/// The same of the script that ends several tasks.
pub(crate) const FINISH_MANY_TEXT: &str = include_str!("lua/finish_many.lua");
pub(crate) static FINISH_MANY: LazyLock<Script> = LazyLock::new(|| Script::new(FINISH_MANY_TEXT));

macro_rules! scripts {
    ($($name:ident = $file:literal),* $(,)?) => {
        $(pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(include_str!(concat!("lua/", $file))));)*
    };
}

scripts! {
    DISPATCH = "dispatch.lua",
    TELL = "tell.lua",
    REQUEUE = "requeue.lua",
    REVIVE = "revive.lua",
    ANNOUNCE = "announce.lua",
    CANCEL = "cancel.lua",
    POP = "pop.lua",
    GIVE_BACK = "give_back.lua",
    TEND = "tend.lua",
    RESTORE = "restore.lua",
    RENEW = "renew.lua",
    TOUCH = "touch.lua",
    UNCLAIM = "unclaim.lua",
    UNLOCK = "unlock.lua",
    KEEP = "keep.lua",
}

#[cfg(test)]
mod tests {
    /// docs/queue.md promises the scripts' full text to those who write a worker or producer.
    #[test]
    fn documentation_has_the_scripts_as_they_are() {
        let docs = include_str!("../../../docs/queue.md");
        for script in [
            include_str!("lua/pop.lua"),
            include_str!("lua/finish.lua"),
            include_str!("lua/finish_many.lua"),
            include_str!("lua/give_back.lua"),
            include_str!("lua/renew.lua"),
            include_str!("lua/dispatch.lua"),
            include_str!("lua/tell.lua"),
            include_str!("lua/keep.lua"),
        ] {
            assert!(docs.contains(script), "docs/queue.md lacks:\n{script}");
        }
    }

    /// The worker in Python has copies, for it has to stand alone.
    #[test]
    fn the_example_has_the_scripts_as_they_are() {
        macro_rules! same {
            ($file:literal) => {
                assert_eq!(
                    include_str!(concat!("../../../examples/python-worker/", $file)),
                    include_str!(concat!("lua/", $file)),
                    "examples/python-worker/{} is to be copied anew",
                    $file
                );
            };
        }
        same!("finish.lua");
        same!("renew.lua");
    }
}
