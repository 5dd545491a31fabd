//! The model that `make model` puts into the user's cache.

use std::{env, path::PathBuf};
use toml::{Table, Value};

const NAME: &str = "efficientnet-lite0";

/// `[worker.onnx]` for the model in the cache, if it is there. Its labels are beside it, and it
/// wants to see images as the defaults have it.
pub(crate) fn configuration() -> Option<Value> {
    let model = folder()?.join("model.onnx");
    if !model.is_file() {
        return None;
    }
    let mut onnx = Table::new();
    onnx.insert("model".into(), model.to_str()?.into());
    onnx.insert("name".into(), NAME.into());
    Some(Value::Table(onnx))
}

fn folder() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let cache = set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    Some(cache.join("imgsys/models").join(NAME))
}
