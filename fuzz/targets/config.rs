//! The configuration file, and the connection strings in it.
#![no_main]

use imgsys_service::{
    Config, Secrets,
    load::from_text,
    secret::{MASK, mask_url},
};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let masked = mask_url(text);
    assert_eq!(mask_url(&masked), masked, "masked twice is masked once");
    if let Some((before, _)) = text.split_once("password=") {
        assert!(masked.len() >= before.len().min(MASK.len()));
    }
    match from_text(text, Path::new("fuzz.toml")) {
        Ok(config) => shown_and_read_again(config),
        Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
    }
});

fn shown_and_read_again(config: Config) {
    let secrets = Secrets::of(&config);
    let shown = config.masked();
    let _ = secrets.mask(&shown.redis.url);
    let text = toml::to_string(&shown).expect("what was read can be written");
    let again = from_text(&text, Path::new("fuzz.toml")).expect("and read again");
    assert_eq!(format!("{again:?}"), format!("{shown:?}"));
}
