//! One page of a listing, versions 1 and 2 alike: a prefix, a marker and a delimiter go in, the objects and
//! common prefixes after the marker come out, in bytewise order. A page costs what it holds, whatever the
//! size of the bucket.

use std::ops::{Bound, ControlFlow};

use jiff::Timestamp;

use super::content::{Content, md5_hex};
use super::faults::Effect;

/// What a listing asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListQuery<'a> {
    pub prefix: &'a str,
    /// Only what sorts after this: a key, or a common prefix that an earlier page ended with.
    pub after: Option<&'a str>,
    pub delimiter: Option<&'a str>,
    pub max_keys: usize,
}

/// One page of a listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub keys: Vec<ListedKey>,
    pub common_prefixes: Vec<String>,
    pub is_truncated: bool,
    /// The last key or common prefix of the page, if there is more.
    pub next: Option<String>,
}

/// One key of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListedKey {
    pub key: String,
    pub size: u64,
    pub etag: String,
    pub last_modified: Timestamp,
}

/// Lists one page.
pub(super) fn list_page(content: &Content, query: &ListQuery<'_>) -> Page {
    let mut page = Page::default();
    if query.max_keys == 0 {
        return page;
    }
    let mut from = first_bound(query);
    loop {
        // A common prefix is found at its first key; the scan then starts again behind its last one.
        let mut found_prefix = None;
        content.scan(from.as_ref().map(String::as_str), |key, listed| {
            if !key.starts_with(query.prefix) {
                return ControlFlow::Break(());
            }
            if page.keys.len() + page.common_prefixes.len() == query.max_keys {
                page.is_truncated = true;
                page.next = page.last().map(str::to_owned);
                return ControlFlow::Break(());
            }
            if let Some(common) = common_prefix(key, query) {
                found_prefix = Some(common.to_owned());
                return ControlFlow::Break(());
            }
            page.keys.push(ListedKey {
                key: key.to_owned(),
                size: listed.size,
                etag: listed.etag,
                last_modified: listed.last_modified,
            });
            ControlFlow::Continue(())
        });
        let Some(common) = found_prefix else { return page };
        let behind = behind_prefix(&common);
        page.common_prefixes.push(common);
        match behind {
            Some(key) => from = Bound::Included(key),
            None => return page,
        }
    }
}

impl Page {
    /// The greatest key or common prefix.
    fn last(&self) -> Option<&str> {
        let key = self.keys.last().map(|listed| listed.key.as_str());
        key.max(self.common_prefixes.last().map(String::as_str))
    }

    /// Makes the page a wrong one; effects that are not about listings change nothing.
    pub(super) fn spoil(&mut self, effect: &Effect, prefix: &str) {
        match effect {
            Effect::ShortPage => {
                self.keys.truncate(self.keys.len() / 2);
                self.common_prefixes.truncate(self.common_prefixes.len() / 2);
                (self.is_truncated, self.next) = (true, None);
            }
            Effect::TruncatedWithoutToken => (self.is_truncated, self.next) = (true, None),
            Effect::TokenWithoutTruncated => {
                let last = self.keys.last().map_or(prefix, |listed| &listed.key);
                (self.is_truncated, self.next) = (false, Some(last.to_owned()));
            }
            Effect::UnorderedPage => self.keys.reverse(),
            Effect::ForeignKeyInPage => {
                let key = behind_prefix(prefix).unwrap_or_default() + "foreign";
                let last_modified = Timestamp::UNIX_EPOCH;
                self.keys.push(ListedKey {
                    key,
                    size: 1,
                    etag: md5_hex(b"x"),
                    last_modified,
                });
            }
            _ => {}
        }
    }
}

/// Returns the key up to and with the first delimiter after the prefix.
fn common_prefix<'k>(key: &'k str, query: &ListQuery<'_>) -> Option<&'k str> {
    let delimiter = query.delimiter.filter(|delimiter| !delimiter.is_empty())?;
    let at = key[query.prefix.len()..].find(delimiter)?;
    Some(&key[..query.prefix.len() + at + delimiter.len()])
}

fn first_bound(query: &ListQuery<'_>) -> Bound<String> {
    let prefix = Bound::Included(query.prefix.to_owned());
    let Some(after) = query.after.filter(|after| *after >= query.prefix) else {
        return prefix;
    };
    let is_common_prefix = after.starts_with(query.prefix) && common_prefix(after, query) == Some(after);
    if is_common_prefix && let Some(behind) = behind_prefix(after) {
        return Bound::Included(behind);
    }
    Bound::Excluded(after.to_owned())
}

/// Returns the smallest string that sorts after everything with this prefix: its last character, increased
/// (UTF-8 sorts like its code points). Nothing sorts after a prefix of greatest characters.
pub(super) fn behind_prefix(prefix: &str) -> Option<String> {
    let mut head = prefix.to_owned();
    while let Some(last) = head.pop() {
        let next = match last {
            '\u{D7FF}' => Some('\u{E000}'),
            other => char::from_u32(u32::from(other) + 1),
        };
        if let Some(next) = next {
            head.push(next);
            return Some(head);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3_server::ETags;
    use crate::s3_server::content::{Attributes, Conditions};

    fn content(keys: &[&str]) -> Content {
        let content = Content::new(false, true, ETags::Md5, jiff::SignedDuration::ZERO);
        for key in keys {
            let key = (*key).to_owned();
            content
                .put(
                    key,
                    "x".into(),
                    None,
                    Attributes::default(),
                    &Conditions::default(),
                )
                .unwrap();
        }
        content
    }

    /// Lists page by page and returns keys and common prefixes, the latter marked by a `*`.
    fn list_all(content: &Content, prefix: &str, delimiter: Option<&str>, max_keys: usize) -> Vec<String> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = list_page(
                content,
                &ListQuery {
                    prefix,
                    after: after.as_deref(),
                    delimiter,
                    max_keys,
                },
            );
            assert!(page.keys.len() + page.common_prefixes.len() <= max_keys);
            let mut items: Vec<String> = page.keys.into_iter().map(|listed| listed.key).collect();
            items.extend(page.common_prefixes.iter().map(|common| format!("{common}*")));
            items.sort();
            all.append(&mut items);
            match page.next {
                Some(next) => after = Some(next),
                None => return all,
            }
        }
    }

    #[test]
    fn pages_of_any_size_add_up_to_the_whole_listing() {
        let keys = [
            "a",
            "a/",
            "a//2",
            "a/1",
            "a/b/3",
            "a0",
            "b/é",
            "b/\u{D7FF}",
            "b/\u{E000}",
        ];
        let content = content(&keys);
        for max_keys in 1..=keys.len() {
            assert_eq!(list_all(&content, "", None, max_keys), keys);
            assert_eq!(
                list_all(&content, "", Some("/"), max_keys),
                ["a", "a/*", "a0", "b/*"]
            );
            assert_eq!(
                list_all(&content, "a/", Some("/"), max_keys),
                ["a/", "a//*", "a/1", "a/b/*"]
            );
            assert_eq!(list_all(&content, "b/", Some("/"), max_keys), keys[6..]);
        }
    }

    #[test]
    fn a_last_page_that_is_full_is_not_truncated() {
        let content = content(&["a", "b"]);
        let query = ListQuery {
            prefix: "",
            after: None,
            delimiter: None,
            max_keys: 2,
        };
        assert_eq!(list_page(&content, &query).next, None);
    }

    #[test]
    fn behind_a_prefix_comes_its_last_character_increased() {
        assert_eq!(behind_prefix("a/"), Some("a0".into()));
        assert_eq!(behind_prefix("a\u{10FFFF}"), Some("b".into()));
        assert_eq!(behind_prefix("\u{10FFFF}"), None);
    }
}
