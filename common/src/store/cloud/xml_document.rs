//! Reads an XML answer strictly: one root element, everything closed, nothing after it. An answer that was cut, or
//! is a page of HTML, never passes (R12).

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Deeper than any answer of a provider.
const DEEPEST: usize = 16;

/// One element that has just been closed or opened.
#[derive(Debug)]
pub(super) struct Element<'a> {
    /// Names of the element and of those around it, from the root: `ListBucketResult/Contents/Key`.
    pub path: &'a str,
    /// Its own text, without that of the elements inside it.
    pub text: &'a str,
    /// Whether Azure percent-encoded the text, because the name cannot be written in XML.
    pub percent_encoded: bool,
}

/// What happened at an element.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// It begins; its text is not known yet.
    Open(&'a str),
    /// It ends.
    Close(Element<'a>),
}

/// The elements around a place of the document, outermost first. Pages have thousands of elements: those that are closed lend their
/// buffers to the next.
#[derive(Default)]
struct OpenElements {
    path: String,
    elements: [OpenElement; DEEPEST],
    depth: usize,
}

#[derive(Default)]
struct OpenElement {
    /// Of the path around it.
    path_length: usize,
    text: String,
    percent_encoded: bool,
}

/// Walks through `document`, whose root must be `root`.
///
/// # Errors
///
/// What is wrong with the document, or what `see` found wrong.
pub(super) fn walk(
    document: &[u8],
    root: &str,
    mut see: impl FnMut(Step<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let document = document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document);
    let text = std::str::from_utf8(document).map_err(|_| "the answer is not UTF-8".to_owned())?;
    let mut reader = Reader::from_str(text);
    let mut open = OpenElements::default();
    let mut root_closed = false;
    loop {
        let event = reader
            .read_event()
            .map_err(|error| format!("the answer is no XML or was cut short ({error})"))?;
        match event {
            Event::Start(start) => {
                open.enter(&start, root, root_closed)?;
                see(Step::Open(&open.path))?;
            }
            Event::Empty(start) => {
                open.enter(&start, root, root_closed)?;
                see(Step::Open(&open.path))?;
                open.leave(&mut see)?;
                root_closed |= open.depth == 0;
            }
            Event::End(_) => {
                open.leave(&mut see)?;
                root_closed |= open.depth == 0;
            }
            Event::Text(piece) => {
                let piece = piece.decode().map_err(|error| error.to_string())?;
                open.add_text(&piece)?;
            }
            Event::CData(piece) => {
                let piece = piece.decode().map_err(|error| error.to_string())?;
                open.add_text(&piece)?;
            }
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|error| error.to_string())?;
                let character = match &*name {
                    "lt" => '<',
                    "gt" => '>',
                    "amp" => '&',
                    "apos" => '\'',
                    "quot" => '"',
                    _ => match reference.resolve_char_ref() {
                        Ok(Some(character)) => character,
                        _ => return Err(format!("the answer has an unknown entity {name:?}")),
                    },
                };
                open.add_text(character.encode_utf8(&mut [0; 4]))?;
            }
            Event::DocType(_) => {
                return Err("the answer has a document type, so it is no answer of a store".into());
            }
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => {
                return if root_closed {
                    Ok(())
                } else {
                    Err("the answer was cut short".into())
                };
            }
        }
    }
}

impl OpenElements {
    fn enter(&mut self, start: &BytesStart<'_>, root: &str, root_closed: bool) -> Result<(), String> {
        if root_closed {
            return Err("the answer goes on after its end".into());
        }
        let name = start.local_name();
        let name = std::str::from_utf8(name.as_ref()).map_err(|_| "the answer is not UTF-8".to_owned())?;
        if self.depth == 0 && name != root {
            return Err(format!("the answer is a {name:?} document, expected {root:?}"));
        }
        let percent_encoded = !start.attributes_raw().is_empty()
            && start
                .try_get_attribute("Encoded")
                .map_err(|error| format!("the answer is no XML ({error})"))?
                .is_some_and(|attribute| attribute.value.as_ref() == b"true");
        let Some(element) = self.elements.get_mut(self.depth) else {
            return Err("the answer is nested too deeply".into());
        };
        element.path_length = self.path.len();
        element.text.clear();
        element.percent_encoded = percent_encoded;
        if self.depth > 0 {
            self.path.push('/');
        }
        self.path.push_str(name);
        self.depth += 1;
        Ok(())
    }

    fn leave(&mut self, see: &mut impl FnMut(Step<'_>) -> Result<(), String>) -> Result<(), String> {
        let Some(depth) = self.depth.checked_sub(1) else {
            return Err("the answer closes what it did not open".into());
        };
        let element = &self.elements[depth];
        see(Step::Close(Element {
            path: &self.path,
            text: &element.text,
            percent_encoded: element.percent_encoded,
        }))?;
        self.path.truncate(element.path_length);
        self.depth = depth;
        Ok(())
    }

    fn add_text(&mut self, piece: &str) -> Result<(), String> {
        match self.depth.checked_sub(1) {
            Some(depth) => self.elements[depth].text.push_str(piece),
            None if piece.trim().is_empty() => {}
            None => return Err("the answer is no XML document".into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(document: &str) -> Result<Vec<(String, String)>, String> {
        let mut leaves = Vec::new();
        walk(document.as_bytes(), "R", |step| {
            if let Step::Close(element) = step {
                leaves.push((element.path.to_owned(), element.text.to_owned()));
            }
            Ok(())
        })?;
        Ok(leaves)
    }

    #[test]
    fn text_is_put_together_from_entities_and_sections() {
        let leaves =
            leaves("<?xml version=\"1.0\"?>\n<R><K>a&amp;b&#x41;<![CDATA[<c>]]></K><E/></R>\n").unwrap();
        assert_eq!(
            leaves,
            [
                ("R/K".to_owned(), "a&bA<c>".to_owned()),
                ("R/E".to_owned(), String::new()),
                ("R".to_owned(), String::new()),
            ]
        );
    }

    #[test]
    fn what_is_not_one_whole_document_is_refused() {
        for document in [
            "",
            "hello",
            "<R><K>a</K>",
            "<R><K>a</R>",
            "<R></R><R></R>",
            "<R/>tail",
            "<S/>",
            "<R>&nbsp;</R>",
            "<R>&#0;</R>",
            "<!DOCTYPE html><html></html>",
            "</R>",
        ] {
            assert!(leaves(document).is_err(), "{document:?}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        assert!(walk("\u{feff}<R/>".as_bytes(), "R", |_| Ok(())).is_ok());
    }
}
