//! Good pages, and every way in which a page can fail to prove itself.

use proptest::prelude::*;

use super::*;

fn asked(prefix: &str) -> Asked<'_> {
    Asked {
        format: PageFormat::S3,
        prefix,
        after: None,
        token: None,
        folded: false,
    }
}

fn contents(key: &str) -> String {
    format!(
        "<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>\
         <ETag>&quot;abc&quot;</ETag><Size>7</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )
}

fn page(inner: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult \
         xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>{inner}</ListBucketResult>"
    )
}

fn last_page(keys: &[&str]) -> String {
    let objects: String = keys.iter().map(|key| contents(key)).collect();
    page(&format!("<IsTruncated>false</IsTruncated>{objects}"))
}

fn problem(document: &str, asked: Asked<'_>) -> String {
    parse_page(document.as_bytes(), asked).unwrap_err()
}

#[test]
fn a_good_page_is_read() {
    let document = page(&format!(
        "<Prefix>a/</Prefix><KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>true</IsTruncated>\
         <NextContinuationToken>t+/=</NextContinuationToken>{}{}",
        contents("a/&amp;"),
        contents("a/b//")
    ));
    let page = parse_page(document.as_bytes(), asked("a/")).unwrap();
    assert_eq!(page.next_token.as_deref(), Some("t+/="));
    let keys: Vec<_> = page.objects.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(keys, ["a/&", "a/b//"]);
    assert_eq!(page.objects[0].etag.as_deref(), Some("abc"));
    assert_eq!(page.objects[0].size, 7);
    assert_eq!(
        page.objects[0].last_modified,
        "2026-01-02T03:04:05Z".parse::<Timestamp>().unwrap()
    );
    assert_eq!(page.last(), Some("a/b//"));
}

#[test]
fn an_empty_last_page_is_good() {
    let page = parse_page(last_page(&[]).as_bytes(), asked("a/")).unwrap();
    assert_eq!(page, Page::default());
}

#[test]
fn folders_are_read_where_asked_for() {
    let document = page(&format!(
        "<IsTruncated>false</IsTruncated>{}<CommonPrefixes><Prefix>a/b/</Prefix></CommonPrefixes>\
         <CommonPrefixes><Prefix>a/c/</Prefix></CommonPrefixes>",
        contents("a/bb")
    ));
    let folded = Asked {
        folded: true,
        ..asked("a/")
    };
    let page = parse_page(document.as_bytes(), folded).unwrap();
    assert_eq!(page.folders, ["a/b/", "a/c/"]);
    assert_eq!(page.last(), Some("a/c/"));
    assert!(problem(&document, asked("a/")).contains("not a folder that was asked for"));
    assert!(problem(&last_page(&["a/b/c"]), folded).contains("folded"));
}

#[test]
fn a_page_of_azure_is_read() {
    let document = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults \
        ServiceEndpoint=\"http://h/\" ContainerName=\"c\"><Prefix>a/</Prefix><MaxResults>5000</MaxResults>\
        <Blobs><Blob><Name>a/1</Name><Properties><Creation-Time>Sat, 02 Jan 2026 03:04:05 GMT</Creation-Time>\
        <Last-Modified>Fri, 02 Jan 2026 03:04:05 GMT</Last-Modified><Etag>0x8D</Etag>\
        <Content-Length>9</Content-Length></Properties></Blob><BlobPrefix><Name Encoded=\"true\">a/%EF%BF%BE/</Name>\
        </BlobPrefix></Blobs><NextMarker>m</NextMarker></EnumerationResults>";
    let azure = Asked {
        format: PageFormat::Azure,
        folded: true,
        ..asked("a/")
    };
    let page = parse_page(document.as_bytes(), azure).unwrap();
    assert_eq!(page.objects[0].size, 9);
    assert_eq!(page.objects[0].etag.as_deref(), Some("0x8D"));
    assert_eq!(page.folders, ["a/\u{fffe}/"]);
    assert_eq!(page.next_token.as_deref(), Some("m"));
    let cut = document.replace("<NextMarker>m</NextMarker>", "");
    assert!(problem(&cut, azure).contains("whether more follows"));
}

#[test]
fn a_page_that_does_not_prove_itself_is_refused() {
    let token = "<NextContinuationToken>t</NextContinuationToken>";
    let cases = [
        ("<html><body>Sign in</body></html>".to_owned(), "document"),
        ("<Error><Code>SlowDown</Code></Error>".to_owned(), "Error"),
        (String::new(), "cut short"),
        (
            last_page(&["a/1"]).replace("</ListBucketResult>", ""),
            "cut short",
        ),
        (page(&contents("a/1")), "whether more follows"),
        (page("<IsTruncated>true</IsTruncated>"), "not how to go on"),
        (
            page(&format!("<IsTruncated>false</IsTruncated>{token}")),
            "nothing follows",
        ),
        (page("<IsTruncated>maybe</IsTruncated>"), "IsTruncated"),
        (last_page(&["b/1"]), "prefix"),
        (last_page(&["a/2", "a/1"]), "comes after"),
        (last_page(&["a/1", "a/1"]), "comes after"),
        (last_page(&["a/1"]).replace("<Size>7", "<Size>-7"), "size"),
        (last_page(&["a/1"]).replace("<Size>7</Size>", ""), "size"),
        (
            last_page(&["a/1"]).replace("2026-01-02T", "2026-13-02T"),
            "LastModified",
        ),
        (last_page(&["a/1"]).replace("<Key>a/1</Key>", ""), "no key"),
        (
            last_page(&["a/1"]).replace("<Key>a/1</Key>", "<Key>a/0</Key><Key>a/1</Key>"),
            "twice",
        ),
        (
            page("<IsTruncated>false</IsTruncated><KeyCount>1</KeyCount>"),
            "1 keys",
        ),
        (
            page("<IsTruncated>false</IsTruncated><Prefix>b/</Prefix>"),
            "page of prefix",
        ),
    ];
    for (document, expected) in cases {
        let problem = problem(&document, asked("a/"));
        assert!(problem.contains(expected), "{document}: {problem}");
    }
}

#[test]
fn a_page_must_go_on_where_the_one_before_ended() {
    let after = Asked {
        after: Some("a/5"),
        ..asked("a/")
    };
    assert!(problem(&last_page(&["a/5"]), after).contains("had to go on"));
    assert!(parse_page(last_page(&["a/6"]).as_bytes(), after).is_ok());
    let same_token = Asked {
        token: Some("t"),
        ..asked("a/")
    };
    let document = page("<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>");
    assert!(problem(&document, same_token).contains("where it began"));
}

#[test]
fn servers_that_count_only_objects_are_borne_with() {
    let document = page(
        "<IsTruncated>false</IsTruncated><KeyCount>0</KeyCount><CommonPrefixes><Prefix>a/b/</Prefix></CommonPrefixes>",
    );
    let folded = Asked {
        folded: true,
        ..asked("a/")
    };
    assert!(parse_page(document.as_bytes(), folded).is_ok());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0_usize..600) {
        let _ = parse_page(&bytes, asked("a/"));
        let whole = last_page(&["a/1", "a/2"]);
        let mut mixed = whole.as_bytes()[..cut.min(whole.len())].to_vec();
        mixed.extend_from_slice(&bytes);
        let _ = parse_page(&mixed, asked("a/"));
        let azure = Asked { format: PageFormat::Azure, ..asked("a/") };
        let _ = parse_page(&mixed, azure);
    }

    #[test]
    fn a_page_cut_anywhere_is_refused(cut in 0_usize..500) {
        let whole = last_page(&["a/1", "a/2"]);
        prop_assume!(cut < whole.len());
        prop_assert!(parse_page(&whole.as_bytes()[..cut], asked("a/")).is_err());
    }
}
