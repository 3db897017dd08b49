//! Documents are what their schema says, and the schema says all that is in them.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Fails where a document is not what a schema says, or has a field that the schema does not describe.
pub fn ensure_fits(schema: &str, report: &Value) -> Result<()> {
    let schema: Value = serde_json::from_str(schema)?;
    let validator = jsonschema::draft202012::options()
        .should_validate_formats(true)
        .build(&schema)
        .map_err(|error| anyhow::anyhow!("the schema is none: {error}"))?;
    let errors: Vec<String> = validator
        .iter_errors(report)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    ensure!(errors.is_empty(), "{errors:?}\n{report:#}");
    ensure_described(report, &schema, &schema, "")
}

/// The schema lets unknown fields pass, for the sake of its readers; the program may write none.
fn ensure_described(value: &Value, schema: &Value, root: &Value, path: &str) -> Result<()> {
    if let Some(name) = schema["$ref"].as_str() {
        let definition = root
            .pointer(name.trim_start_matches('#'))
            .context("a reference leads nowhere")?;
        return ensure_described(value, definition, root, path);
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{path}/{name}");
                let described = schema["properties"]
                    .get(name)
                    .or_else(|| schema.get("additionalProperties"));
                let described = described.with_context(|| format!("{path} is not in the schema"))?;
                ensure_described(value, described, root, &path)?;
            }
        }
        Value::Array(values) => {
            for value in values {
                ensure_described(value, &schema["items"], root, path)?;
            }
        }
        _ => {}
    }
    Ok(())
}
