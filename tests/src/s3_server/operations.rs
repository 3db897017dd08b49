//! The operations of the S3 API on the content of the bucket. Signatures, XML and headers are the work of the
//! `s3s` crate; faults that need an operation's knowledge come with the request's extensions.

use std::ops::Range as Span;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use http::Extensions;
use s3s::dto::*;
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};

use super::Shared;
use super::answers;
use super::content::{Attributes, Conditions, Object};
use super::faults::{Effect, MetFault};
use super::listing::{ListQuery, Page, list_page};
use super::versions::version_id;

/// The largest number of keys that one `DeleteObjects` request may have.
const MOST_KEYS_TO_DELETE: usize = 1000;

/// The S3 API of one server.
#[derive(Debug)]
pub(super) struct Operations(pub Arc<Shared>);

/// The faults that a request has met, as the front hands them on.
#[derive(Clone, Debug)]
pub(super) struct MetFaults(pub Vec<MetFault>);

impl Operations {
    fn check_bucket(&self, bucket: &str) -> S3Result<()> {
        if bucket == self.0.options.bucket {
            Ok(())
        } else {
            Err(s3_error!(NoSuchBucket))
        }
    }

    fn find(&self, bucket: &str, key: &str) -> S3Result<Arc<Object>> {
        self.check_bucket(bucket)?;
        self.0.content.get(key).ok_or_else(|| s3_error!(NoSuchKey))
    }

    /// Finds an object for a read under conditions.
    fn find_if(&self, bucket: &str, key: &str, conditions: &Conditions) -> S3Result<Arc<Object>> {
        let object = self.find(bucket, key)?;
        match conditions {
            Conditions {
                if_match: Some(condition),
                ..
            } if !object.fits(condition) => Err(s3_error!(PreconditionFailed)),
            Conditions {
                if_none_match: Some(condition),
                ..
            } if object.fits(condition) => Err(s3_error!(NotModified)),
            _ => Ok(object),
        }
    }

    fn find_source(&self, source: &CopySource) -> S3Result<Arc<Object>> {
        match source {
            CopySource::Bucket {
                bucket,
                key,
                version_id: None,
            } => self.find(bucket, key),
            _ => Err(s3_error!(NotImplemented, "only a current object can be copied")),
        }
    }

    /// Refuses what is too much for one copy.
    fn check_copy(&self, bytes: usize) -> S3Result<()> {
        let most = self.0.options.largest_copy;
        if bytes as u64 > most {
            return Err(s3_error!(
                InvalidRequest,
                "The specified copy source is larger than the maximum allowable size for a copy source: {most}"
            ));
        }
        Ok(())
    }

    fn version_id(&self, object: &Object) -> Option<String> {
        self.0.content.is_versioned().then(|| version_id(object.version))
    }

    fn list(&self, query: ListQuery<'_>, max_keys: Option<i32>, extensions: &Extensions) -> S3Result<Page> {
        let asked = max_keys.map_or(Ok(usize::MAX), usize::try_from);
        let asked = asked.map_err(|_| s3_error!(InvalidArgument, "max-keys must not be negative"))?;
        let query = ListQuery {
            max_keys: asked.min(self.0.options.page_size),
            ..query
        };
        let mut page = list_page(&self.0.content, &query);
        for fault in met_faults(extensions) {
            page.spoil(&fault.effect, query.prefix);
        }
        Ok(page)
    }

    /// Deletes one key of a `DeleteObjects` request, unless a fault says otherwise.
    fn delete_one(&self, key: &str, faults: &[MetFault], output: &mut DeleteObjectsOutput) -> S3Result<bool> {
        for fault in faults.iter().filter(|fault| fault.concerns(key)) {
            match fault.effect {
                Effect::KeyError { code, message } => {
                    output
                        .errors
                        .get_or_insert_default()
                        .push(answers::key_error(key, code, message));
                    return Ok(false);
                }
                Effect::KeySilentlyMissing => return Ok(false),
                _ => {}
            }
        }
        let removed = self.0.content.remove(key, &Conditions::default())?;
        output
            .deleted
            .get_or_insert_default()
            .push(answers::deleted_key(key));
        Ok(removed)
    }
}

#[async_trait::async_trait]
impl S3 for Operations {
    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.check_bucket(&req.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.check_bucket(&req.input.bucket)?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        self.check_bucket(&input.bucket)?;
        let resumed = input
            .continuation_token
            .as_deref()
            .map(answers::read_token)
            .transpose()?;
        let query = ListQuery {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            after: resumed.as_deref().or(input.start_after.as_deref()),
            delimiter: input.delimiter.as_deref(),
            max_keys: 0,
        };
        let page = self.list(query, input.max_keys, &req.extensions)?;
        Ok(S3Response::new(answers::list_v2(page, input)))
    }

    async fn list_objects(
        &self,
        req: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = req.input;
        self.check_bucket(&input.bucket)?;
        let query = ListQuery {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            after: input.marker.as_deref(),
            delimiter: input.delimiter.as_deref(),
            max_keys: 0,
        };
        let page = self.list(query, input.max_keys, &req.extensions)?;
        Ok(S3Response::new(answers::list_v1(page, input)))
    }

    async fn list_object_versions(
        &self,
        req: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = req.input;
        self.check_bucket(&input.bucket)?;
        let versions = self
            .0
            .content
            .versions(input.prefix.as_deref().unwrap_or_default());
        let page = answers::list_versions(versions, input, self.0.options.page_size);
        Ok(S3Response::new(page))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        refuse_version_id(input.version_id.as_deref())?;
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
        };
        let object = self.find_if(&input.bucket, &input.key, &conditions)?;
        let length = object.bytes.len();
        let span = input.range.map(|range| span(&range, length)).transpose()?;
        let content_range = span
            .as_ref()
            .map(|span| format!("bytes {}-{}/{length}", span.start, span.end - 1));
        let bytes = object.bytes.slice(span.unwrap_or(0..length));
        Ok(S3Response::new(GetObjectOutput {
            content_length: i64::try_from(bytes.len()).ok(),
            body: Some(StreamingBlob::from(Body::from(bytes))),
            content_range,
            accept_ranges: Some("bytes".into()),
            e_tag: Some(object.e_tag()),
            last_modified: Some(answers::time(object.last_modified)),
            content_type: object.attributes.content_type.clone(),
            metadata: object.attributes.metadata.clone(),
            version_id: self.version_id(&object),
            ..Default::default()
        }))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        refuse_version_id(input.version_id.as_deref())?;
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
        };
        let object = self.find_if(&input.bucket, &input.key, &conditions)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: i64::try_from(object.bytes.len()).ok(),
            accept_ranges: Some("bytes".into()),
            e_tag: Some(object.e_tag()),
            last_modified: Some(answers::time(object.last_modified)),
            content_type: object.attributes.content_type.clone(),
            metadata: object.attributes.metadata.clone(),
            version_id: self.version_id(&object),
            ..Default::default()
        }))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = req.input;
        self.check_bucket(&input.bucket)?;
        let bytes = read_body(input.body).await?;
        let attributes = Attributes {
            content_type: input.content_type,
            metadata: input.metadata,
        };
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
        };
        let object = self
            .0
            .content
            .put(input.key, bytes, None, attributes, &conditions)?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(object.e_tag()),
            version_id: self.version_id(&object),
            ..Default::default()
        }))
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = req.input;
        self.check_bucket(&input.bucket)?;
        let source = self.find_source(&input.copy_source)?;
        let replaces = input
            .metadata_directive
            .is_some_and(|directive| directive.as_str() == MetadataDirective::REPLACE);
        let attributes = if replaces {
            Attributes {
                content_type: input.content_type,
                metadata: input.metadata,
            }
        } else {
            source.attributes.clone()
        };
        let bytes = source.bytes.clone();
        self.check_copy(bytes.len())?;
        let object = self
            .0
            .content
            .put(input.key, bytes, None, attributes, &Conditions::default())?;
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(CopyObjectResult {
                e_tag: Some(object.e_tag()),
                last_modified: Some(answers::time(object.last_modified)),
                ..Default::default()
            }),
            version_id: self.version_id(&object),
            ..Default::default()
        }))
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = req.input;
        self.check_bucket(&input.bucket)?;
        if let Some(id) = input.version_id {
            let removed = self.0.content.remove_version(&input.key, &id);
            return Ok(S3Response::new(DeleteObjectOutput {
                delete_marker: removed.map(|removed| removed.was_marker),
                version_id: Some(id),
                ..Default::default()
            }));
        }
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: None,
        };
        let removed = self.0.content.remove(&input.key, &conditions)?;
        self.0.recorder.record_deleted(u64::from(removed));
        let delete_marker = self.0.content.is_versioned().then_some(true);
        Ok(S3Response::new(DeleteObjectOutput {
            delete_marker,
            ..Default::default()
        }))
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = req.input;
        self.check_bucket(&input.bucket)?;
        let objects = input.delete.objects;
        if objects.is_empty() || objects.len() > MOST_KEYS_TO_DELETE {
            return Err(s3_error!(
                MalformedXML,
                "1 to {MOST_KEYS_TO_DELETE} keys a request"
            ));
        }
        let faults = met_faults(&req.extensions);
        let mut output = DeleteObjectsOutput::default();
        let mut removed = 0;
        for object in &objects {
            refuse_version_id(object.version_id.as_deref())?;
            removed += u64::from(self.delete_one(&object.key, faults, &mut output)?);
        }
        self.0.recorder.record_deleted(removed);
        for fault in faults {
            if let Effect::UnexpectedKey(key) = fault.effect {
                output
                    .deleted
                    .get_or_insert_default()
                    .push(answers::deleted_key(key));
            }
        }
        if input.delete.quiet == Some(true) {
            output.deleted = None;
        }
        Ok(S3Response::new(output))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        self.check_bucket(&input.bucket)?;
        let attributes = Attributes {
            content_type: input.content_type,
            metadata: input.metadata,
        };
        let id = self
            .0
            .uploads
            .create(input.key.clone(), attributes, self.0.content.now());
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..Default::default()
        }))
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = req.input;
        self.check_bucket(&input.bucket)?;
        let bytes = read_body(input.body).await?;
        let now = self.0.content.now();
        let etag = self
            .0
            .uploads
            .put_part(&input.key, &input.upload_id, input.part_number, bytes, now)?;
        Ok(S3Response::new(UploadPartOutput {
            e_tag: Some(ETag::Strong(etag)),
            ..Default::default()
        }))
    }

    async fn upload_part_copy(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = req.input;
        self.check_bucket(&input.bucket)?;
        let source = self.find_source(&input.copy_source)?;
        if input
            .copy_source_if_match
            .is_some_and(|condition| !source.fits(&condition))
        {
            return Err(s3_error!(PreconditionFailed));
        }
        let bytes = match input.copy_source_range.as_deref() {
            Some(header) => {
                let range = Range::parse(header).map_err(|_| s3_error!(InvalidArgument))?;
                source.bytes.slice(span(&range, source.bytes.len())?)
            }
            None => source.bytes.clone(),
        };
        self.check_copy(bytes.len())?;
        let now = self.0.content.now();
        let etag = self
            .0
            .uploads
            .put_part(&input.key, &input.upload_id, input.part_number, bytes, now)?;
        Ok(S3Response::new(UploadPartCopyOutput {
            copy_part_result: Some(CopyPartResult {
                e_tag: Some(ETag::Strong(etag)),
                last_modified: Some(answers::time(now)),
                ..Default::default()
            }),
            ..Default::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        self.check_bucket(&input.bucket)?;
        let upload = self.0.uploads.get(&input.key, &input.upload_id)?;
        let named = input
            .multipart_upload
            .and_then(|upload| upload.parts)
            .unwrap_or_default();
        let (bytes, etag) = upload.join(&named)?;
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
        };
        let key = input.key.clone();
        let object = self
            .0
            .content
            .put(key, bytes, Some(etag), upload.attributes, &conditions)?;
        self.0.uploads.remove(&input.key, &input.upload_id)?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(object.e_tag()),
            version_id: self.version_id(&object),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.check_bucket(&req.input.bucket)?;
        self.0.uploads.remove(&req.input.key, &req.input.upload_id)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        self.check_bucket(&req.input.bucket)?;
        let upload = self.0.uploads.get(&req.input.key, &req.input.upload_id)?;
        Ok(S3Response::new(answers::list_parts(
            upload,
            req.input,
            self.0.options.page_size,
        )))
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        self.check_bucket(&req.input.bucket)?;
        let input = req.input;
        // Without an id a marker means every upload of its key.
        let after_id = input
            .upload_id_marker
            .clone()
            .unwrap_or_else(|| "\u{10FFFF}".into());
        let after = input
            .key_marker
            .clone()
            .map(|key| (key, after_id))
            .unwrap_or_default();
        let uploads = self
            .0
            .uploads
            .list(input.prefix.as_deref().unwrap_or_default(), &after);
        Ok(S3Response::new(answers::list_uploads(
            uploads,
            input,
            self.0.options.page_size,
        )))
    }
}

fn met_faults(extensions: &Extensions) -> &[MetFault] {
    extensions.get::<MetFaults>().map_or(&[], |met| &met.0)
}

fn refuse_version_id(version_id: Option<&str>) -> S3Result<()> {
    match version_id {
        Some(_) => Err(s3_error!(NotImplemented, "only current versions can be named")),
        None => Ok(()),
    }
}

fn span(range: &Range, length: usize) -> S3Result<Span<usize>> {
    let span = range.check(length as u64)?;
    let to_usize = |at: u64| usize::try_from(at).map_err(|_| s3_error!(InvalidRange));
    Ok(to_usize(span.start)?..to_usize(span.end)?)
}

async fn read_body(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(body) = body else { return Ok(Bytes::new()) };
    let chunks: Vec<Bytes> = body.try_collect().await.map_err(|error| {
        let mut incomplete = s3_error!(IncompleteBody, "{error}");
        incomplete.set_source(error);
        incomplete
    })?;
    Ok(match chunks.as_slice() {
        [whole] => whole.clone(),
        many => many
            .iter()
            .fold(BytesMut::new(), |mut all, chunk| {
                all.extend_from_slice(chunk);
                all
            })
            .freeze(),
    })
}
