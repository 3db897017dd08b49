//! Azure Blob Storage.

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue};
use object_store::azure::{AzureAuthorizer, AzureCredential, AzureCredentialProvider};
use object_store::client::HttpRequest;

use super::answers::describe;
use super::connector::Authorizer;
use super::list_page::PageFormat;
use super::provider::{CopyStyle, DeleteStyle, ListQuery, Provider, etag_version, query_string};
use super::s3::etag_condition;
use crate::store::{ObjectVersion, PutCondition};

/// The version that `object_store` signs for; anonymous requests need one, too.
const SERVICE_VERSION: HeaderValue = HeaderValue::from_static("2023-11-03");

/// A container of Azure's.
pub(super) struct Azure {
    pub place_url: String,
}

impl Provider for Azure {
    fn place(&self) -> &'static str {
        "container"
    }

    fn page_format(&self) -> PageFormat {
        PageFormat::Azure
    }

    fn place_url(&self) -> &str {
        &self.place_url
    }

    fn list_query(&self, query: ListQuery<'_>) -> String {
        let most_keys = query.most_keys.map(|keys| keys.to_string());
        let mut pairs = vec![
            ("restype", "container"),
            ("comp", "list"),
            ("prefix", query.prefix),
        ];
        if query.folded {
            pairs.push(("delimiter", "/"));
        }
        match (query.token, query.after) {
            (Some(token), _) => pairs.push(("marker", token)),
            // It begins with this key, not behind it; where the service does not know it, with the first.
            (None, Some(after)) => pairs.push(("startFrom", after)),
            (None, None) => {}
        }
        if let Some(most_keys) = &most_keys {
            pairs.push(("maxresults", most_keys));
        }
        query_string(&pairs)
    }

    /// `startFrom` came with service version 2026-02-06 (release notes of Azure's libraries: Java 12.33.0, .NET
    /// 12.27.0-beta.1). `object_store` signs for an older one, and emulators do not know it either.
    fn starts_listings_anywhere(&self) -> bool {
        false
    }

    fn common_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("x-ms-version"), SERVICE_VERSION);
        headers
    }

    fn put_headers(&self, condition: &PutCondition) -> Option<HeaderMap> {
        let mut headers = etag_condition(condition)?;
        headers.insert(
            HeaderName::from_static("x-ms-blob-type"),
            HeaderValue::from_static("BlockBlob"),
        );
        Some(headers)
    }

    fn version(&self, headers: &HeaderMap) -> Option<ObjectVersion> {
        etag_version(headers)
    }

    fn delete_style(&self) -> DeleteStyle {
        DeleteStyle::AzureBatch
    }

    fn copy_style(&self) -> CopyStyle<'_> {
        CopyStyle::ByAddress
    }
}

/// Signs with the account's key, a token, or a shared access signature.
pub(super) struct AzureSigner {
    /// `None` where requests are anonymous.
    pub credentials: Option<AzureCredentialProvider>,
    pub account: String,
}

#[async_trait]
impl Authorizer for AzureSigner {
    async fn authorize(&self, request: &mut HttpRequest) -> Result<(), String> {
        let Some(credentials) = &self.credentials else {
            return Ok(());
        };
        let credential = credentials.get_credential().await.map_err(|error| {
            format!(
                "no credentials were found: {}; set AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN or \
                 AZURE_STORAGE_CONNECTION_STRING",
                describe(&error)
            )
        })?;
        // The signer panics on what no header can hold.
        let bearer = match &*credential {
            AzureCredential::BearerToken(token) => token.as_str(),
            AzureCredential::AccessKey(_) | AzureCredential::SASToken(_) => "",
        };
        if [bearer, &self.account]
            .iter()
            .any(|text| HeaderValue::from_str(text).is_err())
        {
            return Err("the token or the account's name has characters that none can have".to_owned());
        }
        AzureAuthorizer::new(&credential, &self.account)
            .try_authorize(request)
            .map_err(|error| describe(&error))
    }
}
