//! Reads the bytes of one object by range, without asking for its size first.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode};

use super::CloudStore;
use super::answers::{About, Answer, Refusal};
use super::connector::{Ask, Judgement};
use super::pace::Load;
use super::provider::object_url;
use crate::store::{Object, RequestKind, StoreError};

/// What a read found.
enum Found {
    Object(Object),
    /// The range begins at or behind the object's end.
    BehindEnd,
}

impl CloudStore {
    pub(super) async fn read_object(&self, key: &str, offset: u64, limit: u64) -> Result<Object, StoreError> {
        let about = self.about("read", key);
        let url = object_url(self.provider.place_url(), &self.full_key(key))
            .ok_or_else(|| about.unavailable("no address can name this key exactly"))?;
        // A range of nothing cannot be asked for; the size and version are wanted all the same.
        let wanted = limit.max(1);
        let last = offset.saturating_add(wanted - 1);
        let mut ask = Ask {
            load: Load::of(RequestKind::Get, key),
            method: Method::GET,
            url,
            headers: self.provider.common_headers(),
            body: Bytes::new(),
            longest_answer: usize::try_from(wanted).unwrap_or(usize::MAX),
        };
        let range = HeaderValue::from_str(&format!("bytes={offset}-{last}"))
            .map_err(|_| about.unavailable("the range makes no header"))?;
        ask.headers.insert(RANGE, range);
        let found = self
            .connector
            .read(&ask, &about, |answer| {
                self.judge_range(answer, &about, offset, wanted)
            })
            .await?;
        let mut object = match found {
            Found::Object(object) => object,
            Found::BehindEnd => {
                // Not every provider says how long the object is then.
                ask.headers.remove(RANGE);
                self.connector
                    .read(&ask, &about, |answer| self.judge_whole(answer, &about, offset))
                    .await?
            }
        };
        object
            .bytes
            .truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(object)
    }

    fn judge_range(
        &self,
        answer: &Answer,
        about: &About,
        offset: u64,
        wanted: u64,
    ) -> Result<Found, Judgement> {
        match answer.status {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::OK if offset == 0 => {
                return self.judge_whole(answer, about, offset).map(Found::Object);
            }
            StatusCode::OK => {
                return Err(Judgement::Final(
                    about.unavailable("the store does not read ranges"),
                ));
            }
            StatusCode::RANGE_NOT_SATISFIABLE => return Ok(Found::BehindEnd),
            _ => return Err(refuse(answer, about)),
        }
        let range = answer
            .header(CONTENT_RANGE.as_str())
            .and_then(parse_content_range);
        let (first, last, size) =
            range.ok_or_else(|| again(about, "the answer does not say which range it is"))?;
        let length = u64::try_from(answer.body.len()).unwrap_or(u64::MAX);
        let right = first == offset && answer.complete && last - first + 1 == length && last < size;
        let whole = length == wanted || last + 1 == size;
        if !right || !whole {
            return Err(again(about, "the answer is not the range that was asked for"));
        }
        self.object(answer, about, size).map(Found::Object)
    }

    /// Judges an answer to a read without a range, of which up to the cap was read.
    fn judge_whole(&self, answer: &Answer, about: &About, offset: u64) -> Result<Object, Judgement> {
        if answer.status != StatusCode::OK {
            return Err(refuse(answer, about));
        }
        let length = answer
            .header(CONTENT_LENGTH.as_str())
            .and_then(|length| length.parse().ok());
        let read = u64::try_from(answer.body.len()).unwrap_or(u64::MAX);
        let size = match length {
            Some(length) if answer.complete && length != read => {
                return Err(again(about, "the answer was cut short"));
            }
            Some(length) => length,
            // A body that ends with its connection may be cut without a sign.
            None if answer.complete && answer.headers.contains_key(TRANSFER_ENCODING) => read,
            None => return Err(again(about, "the answer does not say how long the object is")),
        };
        let mut object = self.object(answer, about, size)?;
        if offset > 0 {
            if size > offset {
                return Err(again(about, "the object grew while it was read"));
            }
            object.bytes.clear();
        }
        Ok(object)
    }

    fn object(&self, answer: &Answer, about: &About, size: u64) -> Result<Object, Judgement> {
        // A page that something on the way put in the object's place has no version.
        let version = self
            .provider
            .version(&answer.headers)
            .ok_or_else(|| again(about, "the answer names no version (ETag) of the object"))?;
        Ok(Object {
            bytes: answer.body.clone(),
            size,
            version,
        })
    }
}

pub(super) fn refuse(answer: &Answer, about: &About) -> Judgement {
    let refusal = Refusal::read(answer);
    // Something on the way may answer so for a moment; what the store itself says is believed at once.
    let strange =
        answer.status.is_success() || (answer.status == StatusCode::NOT_FOUND && refusal.code.is_none());
    let error = refusal.into_error(about);
    if strange {
        Judgement::Again(error)
    } else {
        Judgement::Final(error)
    }
}

fn again(about: &About, problem: &str) -> Judgement {
    Judgement::Again(about.unavailable(problem))
}

/// First byte, last byte and size of `bytes 0-9/100`.
fn parse_content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last, size.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        assert_eq!(parse_content_range("bytes 0-9/100"), Some((0, 9, 100)));
        for text in ["bytes */0", "bytes 9-0/100", "bytes 0-9/*", "0-9/100", ""] {
            assert_eq!(parse_content_range(text), None, "{text:?}");
        }
    }
}
