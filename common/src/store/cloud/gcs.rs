//! Google Cloud Storage, by its XML API: pages as S3 writes them, conditions by generation.

use async_trait::async_trait;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use object_store::client::HttpRequest;
use object_store::gcp::GcpCredentialProvider;

use super::answers::describe;
use super::connector::Authorizer;
use super::list_page::PageFormat;
use super::provider::{BucketMetadata, CopyStyle, DeleteStyle, ListQuery, Provider};
use super::s3::list_query;
use crate::store::{ObjectVersion, PutCondition};

const GENERATION: &str = "x-goog-generation";
const IF_GENERATION: HeaderName = HeaderName::from_static("x-goog-if-generation-match");

/// A bucket of Google's.
pub(super) struct Gcs {
    pub place_url: String,
    pub metadata: BucketMetadata,
}

impl Provider for Gcs {
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
        let mut headers = HeaderMap::new();
        match condition {
            PutCondition::Always => {}
            PutCondition::IfAbsent => {
                headers.insert(IF_GENERATION, HeaderValue::from_static("0"));
            }
            PutCondition::IfUnchanged(version) => {
                // Generation 0 would mean "absent" here.
                let generation = version
                    .0
                    .parse()
                    .ok()
                    .filter(|generation: &u64| *generation > 0)?;
                headers.insert(IF_GENERATION, HeaderValue::from(generation));
            }
        }
        Some(headers)
    }

    fn version(&self, headers: &HeaderMap) -> Option<ObjectVersion> {
        let generation = headers.get(GENERATION)?.to_str().ok()?;
        (!generation.is_empty()).then(|| ObjectVersion(generation.to_owned()))
    }

    fn bucket_metadata(&self) -> Option<&BucketMetadata> {
        Some(&self.metadata)
    }

    fn delete_style(&self) -> DeleteStyle {
        DeleteStyle::OneByOne
    }

    /// Within a bucket, and to the bucket's own storage class, Google copies no bytes, whatever the size. Where it must, it gives up
    /// after 30 s with an error ("copy spanning locations and/or storage classes").
    fn copy_style(&self) -> CopyStyle<'_> {
        CopyStyle::ByName {
            header: "x-goog-copy-source",
            bucket: &self.metadata.bucket,
            parts: None,
        }
    }
}

/// Adds Google's bearer token.
pub(super) struct GcsAuthorizer {
    /// `None` where requests are anonymous.
    pub credentials: Option<GcpCredentialProvider>,
}

#[async_trait]
impl Authorizer for GcsAuthorizer {
    async fn authorize(&self, request: &mut HttpRequest) -> Result<(), String> {
        let Some(credentials) = &self.credentials else {
            return Ok(());
        };
        let credential = credentials.get_credential().await.map_err(|error| {
            format!(
                "no credentials were found: {}; set GOOGLE_APPLICATION_CREDENTIALS, or run \
                 `gcloud auth application-default login`",
                describe(&error)
            )
        })?;
        if credential.bearer.is_empty() {
            return Ok(());
        }
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", credential.bearer))
            .map_err(|_| "the token has characters that none can have".to_owned())?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
        Ok(())
    }
}
