//! The schemas of bundles and shares are as the code reads them.

use std::path::Path;

use schemars::{Schema, schema_for};

use crate::{deployment::DeploymentDocument, document::Document, recovery::share::ShareForm};

/// `REKEY_BLESS=1` writes them anew. A format that was released never changes.
#[test]
fn the_schemas_are_those_of_the_code() {
    for (file, schema) in [
        ("bundle.schema.json", schema_for!(Document)),
        ("deployment.schema.json", schema_for!(DeploymentDocument)),
        ("recovery-share.schema.json", schema_for!(ShareForm<'_>)),
    ] {
        assert_is_in(file, &schema);
    }
}

fn assert_is_in(file: &str, schema: &Schema) {
    let formats = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format");
    let path = formats.join(file);
    let text = serde_json::to_string_pretty(schema).unwrap() + "\n";
    if std::env::var_os("REKEY_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, text, "{file}");
}
