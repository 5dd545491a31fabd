//! `imgsys.cddl`, parsed once.

use cddl::{
    ast::CDDL,
    parser::cddl_from_str,
    validator::{Validator, cbor::CBORValidator, cbor_value::decode_cbor},
};
use std::sync::LazyLock;

/// The grammar's text.
pub(crate) const TEXT: &str = include_str!("../../../imgsys.cddl");

// The validator begins with the first rule of a grammar.
static CLIENT: LazyLock<CDDL<'static>> = LazyLock::new(|| parse("ClientMessage"));
static SERVER: LazyLock<CDDL<'static>> = LazyLock::new(|| parse("ServerMessage"));

fn parse(root: &str) -> CDDL<'static> {
    let text = format!("Root = {root}\n{TEXT}");
    cddl_from_str(text.leak(), true).unwrap_or_else(|error| panic!("imgsys.cddl: {error}"))
}

/// Whether the head is valid; if it is not, all that the validator has to say.
pub(crate) fn validate<M: super::Message>(head: &[u8]) -> Result<(), String> {
    let grammar = match M::SIDE {
        "client" => &*CLIENT,
        _ => &*SERVER,
    };
    let value = decode_cbor(head).map_err(|error| error.to_string())?;
    CBORValidator::new(grammar, value, None)
        .validate()
        .map_err(|error| error.to_string())
}
