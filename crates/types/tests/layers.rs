//! Each layer uses only those below it: the table of docs/architecture.md, held against the
//! manifests.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs, path::Path};
use toml::Table;

/// The layers from the top, with the crates in each.
fn layers(document: &str) -> Vec<Vec<String>> {
    let table = document.split("| layer | crates |").nth(1).unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let crates = row.split('|').nth(2).unwrap();
        let names = crates.split('`').skip(1).step_by(2);
        names.map(str::to_owned).collect()
    })
    .collect()
}

#[test]
fn each_layer_uses_only_those_below_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let document = fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let mut depth = BTreeMap::new();
    for (level, crates) in layers(&document).into_iter().enumerate() {
        depth.extend(crates.into_iter().map(|name| (name, level)));
    }
    let mut seen = Vec::new();
    for entry in fs::read_dir(root.join("crates")).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let level = depth.get(&name);
        let level = *level.unwrap_or_else(|| panic!("{name} is in no layer"));
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let manifest: Table = manifest.parse().unwrap();
        let dependencies = manifest
            .get("dependencies")
            .and_then(|table| table.as_table());
        for used in dependencies.into_iter().flat_map(Table::keys) {
            if let Some(used) = used.strip_prefix("imgsys-") {
                assert!(
                    depth[used] > level,
                    "{name} may not use {used}: it is not below it"
                );
            }
        }
        seen.push(name);
    }
    seen.sort_unstable();
    let listed: Vec<_> = depth.into_keys().collect();
    assert_eq!(seen, listed, "docs/architecture.md lists every crate");
}
