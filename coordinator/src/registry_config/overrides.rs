//! The registry's environment variables laid over its file, as the registry itself lays them.
//!
//! `REGISTRY_A_B=…` sets `a: b:`; its value is YAML. Variables apply in the order of their names, so the shorter
//! before the longer: `REGISTRY_STORAGE=s3` replaces the driver that `REGISTRY_STORAGE_S3_BUCKET` then configures.
//! A part of a name finds a key by its upper-case form and makes one in lower case. Source: `configuration/parser.go`
//! of CNCF Distribution 2.8 and 3.1, including what the registry silently ignores.

use std::ffi::OsString;
use std::sync::Arc;

use super::error::RegistryConfigError;
use super::yaml::{self, Mapping, Node, Origin, Scalar, Value};

/// What the registry's configuration type has at a place in the tree.
#[derive(Clone, Copy)]
enum Shape {
    /// Fields.
    Fields,
    /// Named sections of settings; a bare word is a section without settings.
    Sections,
    /// Settings of any kind.
    Settings,
    /// What is inside a setting.
    Setting,
}

impl Shape {
    /// The sections that this program looks at; the rest of the environment stays unread.
    fn of_root_section(name: &str) -> Option<Self> {
        match name {
            "STORAGE" | "AUTH" => Some(Self::Sections),
            "REDIS" | "PROXY" | "DATABASE" | "OPENSHIFT" => Some(Self::Fields),
            _ => None,
        }
    }

    fn child(self) -> Self {
        match self {
            Self::Fields => Self::Fields,
            Self::Sections => Self::Settings,
            Self::Settings | Self::Setting => Self::Setting,
        }
    }
}

/// Lays the variables of `environment` over the file's tree.
pub(super) fn apply(
    root: &mut Mapping,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), RegistryConfigError> {
    let mut variables = Vec::new();
    for (name, value) in environment {
        // The registry splits names at `_`, so a name that is not UTF-8 cannot be one of these.
        let Ok(name) = name.into_string() else { continue };
        let Some(path) = name.strip_prefix("REGISTRY_") else {
            continue;
        };
        let section = path.split('_').next().unwrap_or_default();
        let Some(shape) = Shape::of_root_section(section) else {
            continue;
        };
        let origin = Origin::Variable(Arc::from(name.as_str()));
        let Ok(value) = value.into_string() else {
            return Err(RegistryConfigError::NotText {
                place: origin.place(1, 1),
            });
        };
        variables.push((name, value, shape, origin));
    }
    variables.sort_by(|a, b| a.0.cmp(&b.0));

    for (name, value, shape, origin) in variables {
        let parts: Vec<&str> = name.split('_').skip(1).collect();
        overwrite_entry(root, shape, &parts, yaml::parse(&value, &origin)?);
    }
    Ok(())
}

/// Sets what `parts` lead to inside `target`, whose type in the registry is `shape`.
fn overwrite(target: &mut Node, shape: Shape, parts: &[&str], value: Node) {
    if let (Shape::Sections, Value::Scalar(Scalar { text, .. })) = (shape, &target.value) {
        let mut sections = Mapping::default();
        let settings = Node {
            place: target.place.clone(),
            value: Value::Mapping(Mapping::default()),
        };
        sections.entries.insert(text.clone(), settings);
        target.value = Value::Mapping(sections);
    }
    // The registry reaches into no list of words and into nothing that is written down inside a setting.
    if let Value::Mapping(mapping) = &mut target.value
        && (!matches!(shape, Shape::Setting) || mapping.implied)
    {
        overwrite_entry(mapping, shape.child(), parts, value);
    }
}

/// Sets the entry that `parts` begin with, or what the rest of them leads to inside it. `shape` is the entry's.
fn overwrite_entry(mapping: &mut Mapping, shape: Shape, parts: &[&str], value: Node) {
    let [part, rest @ ..] = parts else { return };
    if rest.is_empty() {
        mapping.entries.insert(part.to_lowercase(), value);
        return;
    }
    let existing = mapping
        .entries
        .iter_mut()
        .find(|(key, node)| key.to_uppercase() == **part && !node.is_null());
    if let Some((_, node)) = existing {
        overwrite(node, shape, rest, value);
        return;
    }
    let implied = Mapping {
        implied: true,
        ..Mapping::default()
    };
    let mut node = Node {
        place: value.place.clone(),
        value: Value::Mapping(implied),
    };
    overwrite(&mut node, shape, rest, value);
    mapping.entries.insert(part.to_lowercase(), node);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree as one line, after `variables` were laid over `file`.
    fn overlaid(file: &str, variables: &[(&str, &str)]) -> String {
        let Value::Mapping(mut root) = yaml::parse(file, &Origin::File("f".into())).unwrap().value else {
            panic!("no mapping")
        };
        apply(
            &mut root,
            variables.iter().map(|(name, value)| (name.into(), value.into())),
        )
        .unwrap();
        show_mapping(&root)
    }

    fn show_mapping(mapping: &Mapping) -> String {
        let entries = mapping.entries.iter().map(|(key, node)| match &node.value {
            Value::Scalar(scalar) => format!("{key}={}", scalar.text),
            Value::Sequence(items) => format!("{key}[{}]", items.len()),
            Value::Mapping(inner) => format!("{key}{}", show_mapping(inner)),
        });
        format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn shorter_names_apply_first() {
        let file = "storage: {filesystem: {rootdirectory: /a}, delete: {enabled: true}}";
        let variables = [("REGISTRY_STORAGE_S3_BUCKET", "b"), ("REGISTRY_STORAGE", "s3")];
        assert_eq!(overlaid(file, &variables), "{storage{s3{bucket=b}}}");
    }

    #[test]
    fn keys_are_found_in_any_case_and_made_in_lower_case() {
        let file = "storage: {FileSystem: {RootDirectory: /a}}";
        let variables = [("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/b")];
        assert_eq!(
            overlaid(file, &variables),
            "{storage{FileSystem{RootDirectory=/a rootdirectory=/b}}}"
        );
    }

    #[test]
    fn a_lower_case_variable_makes_the_section_anew() {
        let file = "storage: {s3: {bucket: a, region: r}}";
        assert_eq!(
            overlaid(file, &[("REGISTRY_STORAGE_s3_bucket", "b")]),
            "{storage{s3{bucket=b}}}"
        );
        assert_eq!(
            overlaid(file, &[("REGISTRY_storage_s3_bucket", "b")]),
            "{storage{s3{bucket=a region=r}}}"
        );
    }

    #[test]
    fn a_section_set_whole_is_replaced() {
        let file = "storage: {s3: {bucket: a, region: r}}";
        assert_eq!(
            overlaid(file, &[("REGISTRY_STORAGE_S3", "{bucket: b}")]),
            "{storage{s3{bucket=b}}}"
        );
    }

    #[test]
    fn missing_and_null_sections_are_made() {
        let variables = [("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/b")];
        for file in ["{}", "storage:", "storage: {filesystem: }", "storage: filesystem"] {
            assert_eq!(
                overlaid(file, &variables),
                "{storage{filesystem{rootdirectory=/b}}}",
                "{file}"
            );
        }
    }

    #[test]
    fn what_is_written_inside_a_setting_is_not_reached() {
        let file = "storage: {maintenance: {readonly: {enabled: false}}}";
        let variables = [("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true")];
        assert_eq!(
            overlaid(file, &variables),
            "{storage{maintenance{readonly{enabled=false}}}}"
        );
        assert_eq!(
            overlaid("{}", &variables),
            "{storage{maintenance{readonly{enabled=true}}}}"
        );
        assert_eq!(
            overlaid(
                "storage: {s3: {bucket: a}}",
                &[("REGISTRY_STORAGE_S3_BUCKET_X", "y")]
            ),
            "{storage{s3{bucket=a}}}"
        );
    }

    #[test]
    fn other_variables_are_left_unread() {
        let variables = [
            ("REGISTRY_PORT", "tcp://: {["),
            ("REGISTRY_HTTP_SECRET", "*"),
            ("STORAGE_S3", "x"),
        ];
        assert_eq!(overlaid("{}", &variables), "{}");
    }
}
