//! Amazon S3 and what speaks its language.

use async_trait::async_trait;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue};
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::HttpRequest;

use super::answers::describe;
use super::connector::Authorizer;
use super::list_page::PageFormat;
use super::provider::{CopyParts, CopyStyle, DeleteStyle, ListQuery, Provider, etag_version, query_string};
use crate::store::{ObjectVersion, PutCondition};

/// A bucket of S3.
pub(super) struct S3 {
    pub place_url: String,
    pub bucket: String,
    pub bulk_delete: bool,
    pub copy_parts: CopyParts,
    /// Server-side encryption as a Distribution configuration asks for it.
    pub encryption: Vec<(&'static str, String)>,
}

impl Provider for S3 {
    fn place(&self) -> &'static str {
        "bucket"
    }

    fn page_format(&self) -> PageFormat {
        PageFormat::S3
    }

    fn place_url(&self) -> &str {
        &self.place_url
    }

    fn list_query(&self, query: ListQuery<'_>) -> String {
        list_query(query)
    }

    fn put_headers(&self, condition: &PutCondition) -> Option<HeaderMap> {
        let mut headers = etag_condition(condition)?;
        for (name, value) in &self.encryption {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).ok()?);
        }
        Some(headers)
    }

    fn version(&self, headers: &HeaderMap) -> Option<ObjectVersion> {
        etag_version(headers)
    }

    fn has_multipart_uploads(&self) -> bool {
        true
    }

    fn delete_style(&self) -> DeleteStyle {
        if self.bulk_delete {
            DeleteStyle::DeleteObjects
        } else {
            DeleteStyle::OneByOne
        }
    }

    fn copy_style(&self) -> CopyStyle<'_> {
        CopyStyle::ByName {
            header: "x-amz-copy-source",
            bucket: &self.bucket,
            parts: Some(self.copy_parts),
        }
    }

    fn lists_versions(&self) -> bool {
        true
    }
}

/// The query of `ListObjectsV2`, which Google's XML API shares.
pub(super) fn list_query(query: ListQuery<'_>) -> String {
    let most_keys = query.most_keys.map(|keys| keys.to_string());
    let mut pairs = vec![("list-type", "2"), ("prefix", query.prefix)];
    if query.folded {
        pairs.push(("delimiter", "/"));
    }
    match (query.token, query.after) {
        (Some(token), _) => pairs.push(("continuation-token", token)),
        (None, Some(after)) => pairs.push(("start-after", after)),
        (None, None) => {}
    }
    if let Some(most_keys) = &most_keys {
        pairs.push(("max-keys", most_keys));
    }
    query_string(&pairs)
}

/// Conditions as S3 and Azure take them.
pub(super) fn etag_condition(condition: &PutCondition) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    match condition {
        PutCondition::Always => {}
        PutCondition::IfAbsent => {
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        PutCondition::IfUnchanged(version) => {
            headers.insert(IF_MATCH, HeaderValue::from_str(&version.0).ok()?);
        }
    }
    Some(headers)
}

/// Signs with AWS's version 4.
pub(super) struct S3Authorizer {
    /// `None` where requests are not signed.
    pub credentials: Option<AwsCredentialProvider>,
    pub region: String,
    pub sign_payload: bool,
    pub request_payer: bool,
}

#[async_trait]
impl Authorizer for S3Authorizer {
    async fn authorize(&self, request: &mut HttpRequest) -> Result<(), String> {
        let Some(credentials) = &self.credentials else {
            return Ok(());
        };
        let credential = credentials.get_credential().await.map_err(|error| {
            format!(
                "no credentials were found: {}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
                describe(&error)
            )
        })?;
        // The signer panics on what no header can hold.
        let texts = [
            Some(&credential.key_id),
            credential.token.as_ref(),
            Some(&self.region),
        ];
        if texts
            .into_iter()
            .flatten()
            .any(|text| HeaderValue::from_str(text).is_err())
        {
            return Err("the access key, token or region has characters that none can have".to_owned());
        }
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .with_sign_payload(self.sign_payload)
            .with_request_payer(self.request_payer)
            .try_authorize(request, None)
            .map_err(|error| describe(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_asked_for_by_token_or_by_key() {
        let query = ListQuery {
            prefix: "a/",
            folded: true,
            after: Some("a/b"),
            token: None,
            most_keys: Some(1),
        };
        assert_eq!(
            list_query(query),
            "?list-type=2&prefix=a%2F&delimiter=%2F&start-after=a%2Fb&max-keys=1"
        );
        let next = ListQuery {
            token: Some("t="),
            ..query
        };
        assert!(list_query(next).contains("&continuation-token=t%3D&"));
        assert!(!list_query(next).contains("start-after"));
    }
}
