//! YAML text in, a bounded tree with the place of every node out.
//!
//! Upholds R9: size and depth are limited, and what aliases repeat counts as if it were written out. Anchors, merge
//! keys and the first document of several are read as the registry's own parser (Go's `yaml.v2`) reads them; of
//! repeated keys the last one wins there, and here.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::error::{Place, RegistryConfigError};

/// No real configuration is nested deeper.
const MAX_DEPTH: usize = 64;
/// Bytes of text, and a flat amount for each node, after aliases are expanded.
const MAX_WEIGHT: usize = 8 << 20;
const NODE_WEIGHT: usize = 32;

/// What a text came from.
#[derive(Clone)]
pub(super) enum Origin {
    File(Arc<str>),
    Variable(Arc<str>),
}

impl Origin {
    pub(super) fn place(&self, line: usize, column: usize) -> Place {
        match self {
            Self::File(path) => Place::File {
                path: Arc::clone(path),
                line,
                column,
            },
            Self::Variable(name) => Place::Variable(Arc::clone(name)),
        }
    }
}

/// A value and where it stands. No `Debug`: it may hold credentials.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Clone)]
pub(super) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Mapping),
}

#[derive(Clone, Default)]
pub(super) struct Mapping {
    pub(super) entries: BTreeMap<String, Node>,
    /// Made for an environment variable that reaches into a mapping which is not there. The registry can overwrite
    /// parts of such a mapping, but not of one that was written down.
    pub(super) implied: bool,
}

#[derive(Clone)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) style: Style,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Without quotes: what it is depends on its text.
    Plain,
    /// In quotes, a block, or tagged `!!str`: text.
    Quoted,
    /// With another tag.
    Tagged,
}

/// What the registry's parser makes of a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Null,
    Bool(bool),
    /// A decimal integer that prints as it is written.
    Integer,
    /// A number that may print differently.
    Number,
    Text,
    /// Something that its tag says.
    Tagged,
}

impl Node {
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.meaning() == Meaning::Null)
    }

    pub(super) fn mapping(&self) -> Option<&Mapping> {
        match &self.value {
            Value::Mapping(mapping) => Some(mapping),
            _ => None,
        }
    }

    /// Levels of nodes, this one included.
    fn height(&self) -> usize {
        1 + match &self.value {
            Value::Scalar(_) => 0,
            Value::Sequence(items) => items.iter().map(Self::height).max().unwrap_or(0),
            Value::Mapping(mapping) => mapping.entries.values().map(Self::height).max().unwrap_or(0),
        }
    }

    fn weight(&self) -> usize {
        NODE_WEIGHT
            + match &self.value {
                Value::Scalar(scalar) => scalar.text.len(),
                Value::Sequence(items) => items.iter().map(Self::weight).sum(),
                Value::Mapping(mapping) => mapping
                    .entries
                    .iter()
                    .map(|(key, node)| key.len() + node.weight())
                    .sum(),
            }
    }
}

impl Scalar {
    pub(super) fn meaning(&self) -> Meaning {
        match self.style {
            Style::Quoted => Meaning::Text,
            Style::Tagged => Meaning::Tagged,
            Style::Plain => plain_meaning(&self.text),
        }
    }
}

/// YAML 1.1's reading of plain scalars, as `yaml.v2` has it. Timestamps stay text there.
fn plain_meaning(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Meaning::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            return Meaning::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            return Meaning::Bool(false);
        }
        _ => {}
    }
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return Meaning::Text;
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let without_leading_zero = digits == "0" || !digits.starts_with('0');
    let is_decimal = digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_decimal && without_leading_zero && (text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok()) {
        return Meaning::Integer;
    }
    let plain = text.replace('_', "");
    let unsigned = plain.trim_start_matches(['+', '-']);
    let special = matches!(unsigned.to_ascii_lowercase().as_str(), ".inf" | ".nan");
    let radix = [("0x", 16), ("0X", 16), ("0b", 2), ("0B", 2), ("0o", 8), ("0O", 8)]
        .into_iter()
        .any(|(prefix, radix)| {
            unsigned
                .strip_prefix(prefix)
                .is_some_and(|rest| u128::from_str_radix(rest, radix).is_ok())
        });
    if special
        || radix
        || (unsigned.starts_with(['.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
            && unsigned.parse::<f64>().is_ok())
    {
        return Meaning::Number;
    }
    Meaning::Text
}

/// Reads the first document of `text`. An empty text is null.
pub(super) fn parse(text: &str, origin: &Origin) -> Result<Node, RegistryConfigError> {
    let mut options = Options::default();
    // Said, and not left to the crate's features: whoever else uses it in this build chooses those, too.
    options.set_emit_comments(false);
    let mut builder = Builder {
        parser: Parser::new_from_str_with_options(text, options),
        origin,
        anchors: HashMap::new(),
        weight_left: MAX_WEIGHT,
    };
    loop {
        let (event, span) = builder.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(..) => {}
            Event::StreamEnd | Event::DocumentEnd => {
                return Ok(Node {
                    place: origin.place(1, 1),
                    value: null(),
                });
            }
            event => return builder.node(event, &span, 0),
        }
    }
}

/// A plain scalar without text.
pub(super) fn null() -> Value {
    Value::Scalar(Scalar {
        text: String::new(),
        style: Style::Plain,
    })
}

struct Builder<'t> {
    parser: Parser<'t, StrInput<'t>>,
    origin: &'t Origin,
    anchors: HashMap<usize, Rc<Node>>,
    weight_left: usize,
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), RegistryConfigError> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(self.not_yaml(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn not_yaml(&self, error: &ScanError) -> RegistryConfigError {
        use granit_parser::ErrorKind;
        let problem = match error.kind() {
            // The only kinds whose message has a character of the text in it.
            ErrorKind::UnexpectedCharacter { .. } => "unexpected character".to_owned(),
            kind => kind.to_string(),
        };
        let place = self.origin.place(error.marker().line(), error.marker().col() + 1);
        RegistryConfigError::NotYaml { place, problem }
    }

    fn node(&mut self, event: Event<'t>, span: &Span, depth: usize) -> Result<Node, RegistryConfigError> {
        let place = self.origin.place(span.start.line(), span.start.col() + 1);
        let too_deep = |place| RegistryConfigError::TooComplex {
            place,
            problem: "nested more than 64 levels deep",
        };
        if depth > MAX_DEPTH {
            return Err(too_deep(place));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let style = match tag {
                    None if style == ScalarStyle::Plain => Style::Plain,
                    None => Style::Quoted,
                    Some(tag) if tag.is_yaml_core_schema_tag("str") => Style::Quoted,
                    Some(_) => Style::Tagged,
                };
                self.charge(NODE_WEIGHT + text.len(), &place)?;
                (
                    Value::Scalar(Scalar {
                        text: text.into_owned(),
                        style,
                    }),
                    anchor,
                )
            }
            Event::SequenceStart(_, anchor, _) => {
                self.charge(NODE_WEIGHT, &place)?;
                let mut items = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    items.push(self.node(event, &span, depth + 1)?);
                }
                (Value::Sequence(items), anchor)
            }
            Event::MappingStart(_, anchor, _) => {
                self.charge(NODE_WEIGHT, &place)?;
                (Value::Mapping(self.mapping(depth)?), anchor)
            }
            Event::Alias(id) => {
                // An alias inside its own anchor has no node yet.
                let Some(target) = self.anchors.get(&id) else {
                    return Err(RegistryConfigError::NotYaml {
                        place,
                        problem: "an alias repeats the value that it stands in".to_owned(),
                    });
                };
                if depth + target.height() > MAX_DEPTH {
                    return Err(too_deep(place));
                }
                // Weighed before it is cloned, for it may be too much.
                let target = Rc::clone(target);
                self.charge(target.weight(), &place)?;
                (target.value.clone(), 0)
            }
            _ => {
                return Err(RegistryConfigError::NotYaml {
                    place,
                    problem: "the text ends too early".to_owned(),
                });
            }
        };
        let node = Node { place, value };
        if anchor != 0 {
            self.charge(node.weight(), &node.place)?;
            self.anchors.insert(anchor, Rc::new(node.clone()));
        }
        Ok(node)
    }

    fn mapping(&mut self, depth: usize) -> Result<Mapping, RegistryConfigError> {
        let mut mapping = Mapping::default();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let key = self.node(event, &span, depth + 1)?;
            let (event, span) = self.next()?;
            let value = self.node(event, &span, depth + 1)?;
            match key.value {
                Value::Scalar(Scalar {
                    text,
                    style: Style::Plain,
                }) if text == "<<" => merged.push(value),
                Value::Scalar(Scalar { text, .. }) => {
                    mapping.entries.insert(text, value);
                }
                _ => {
                    return Err(RegistryConfigError::NotYaml {
                        place: key.place,
                        problem: "a key must be text".to_owned(),
                    });
                }
            }
        }
        for source in merged {
            merge(&mut mapping, source)?;
        }
        Ok(mapping)
    }

    fn charge(&mut self, weight: usize, place: &Place) -> Result<(), RegistryConfigError> {
        self.weight_left =
            self.weight_left
                .checked_sub(weight)
                .ok_or_else(|| RegistryConfigError::TooComplex {
                    place: place.clone(),
                    problem: "its aliases repeat too much (more than 8 MiB written out)",
                })?;
        Ok(())
    }
}

/// Adds what a merge key names. What is written out, or merged before, stays.
fn merge(mapping: &mut Mapping, source: Node) -> Result<(), RegistryConfigError> {
    match source.value {
        Value::Mapping(source) => {
            for (key, node) in source.entries {
                mapping.entries.entry(key).or_insert(node);
            }
            Ok(())
        }
        Value::Sequence(sources) if sources.iter().all(|source| source.mapping().is_some()) => {
            sources.into_iter().try_for_each(|source| merge(mapping, source))
        }
        _ => Err(RegistryConfigError::NotYaml {
            place: source.place,
            problem: "a merge key (<<) needs a mapping".to_owned(),
        }),
    }
}
