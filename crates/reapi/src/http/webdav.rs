use std::time::SystemTime;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::refusal::Refusal;
use super::route::ValueKey;
use super::{Answer, Http};

const DAV: HeaderName = HeaderName::from_static("dav");
const ALLOW: &str = "GET, HEAD, PUT, DELETE, OPTIONS, PROPFIND, MKCOL";

/// What a PROPFIND tells of its path.
enum Found {
    Collection,
    Value { size_bytes: u64, written: SystemTime },
}

/// As much of WebDAV as sccache needs: keys are free, and every collection there could be is there. Spec: http-cache §4.
impl Http {
    pub(super) async fn webdav(&self, head: &Parts, body: Body, key: ValueKey, is_collection: bool) -> Answer {
        match head.method.as_str() {
            "PROPFIND" => self.properties(head, &key, is_collection).await,
            "MKCOL" => Ok(StatusCode::CREATED.into_response()),
            "OPTIONS" => {
                let headers = [(DAV, HeaderValue::from_static("1")), (header::ALLOW, HeaderValue::from_static(ALLOW))];
                Ok((StatusCode::OK, headers).into_response())
            }
            "GET" | "HEAD" if is_collection => Err(Refusal::Missing),
            "PUT" | "DELETE" if is_collection => Err(Refusal::Malformed("a collection has no bytes".to_owned())),
            "PUT" => {
                self.write_value(head, body, &key, Vec::new()).await?;
                Ok(StatusCode::CREATED.into_response())
            }
            "GET" | "HEAD" | "DELETE" => self.value(head, body, &key).await,
            _ => Err(Refusal::Method(ALLOW)),
        }
    }

    async fn properties(&self, head: &Parts, key: &ValueKey, is_collection: bool) -> Answer {
        if head.headers.get("depth").is_none_or(|depth| depth != "0") {
            return Err(Refusal::Depth);
        }
        if is_collection {
            return Ok(multistatus(head.uri.path(), &Found::Collection));
        }
        let record = self.find_value(key).await?.ok_or(Refusal::Missing)?;
        let found = Found::Value { size_bytes: record.digest.size_bytes(), written: record.provenance.written() };
        Ok(multistatus(head.uri.path(), &found))
    }
}

fn multistatus(href: &str, found: &Found) -> Response {
    let (kind, length, modified) = match found {
        Found::Collection => ("<D:collection/>", String::new(), SystemTime::UNIX_EPOCH),
        Found::Value { size_bytes, written } => {
            ("", format!("<D:getcontentlength>{size_bytes}</D:getcontentlength>"), *written)
        }
    };
    let modified = httpdate::fmt_http_date(modified);
    let href = escape(href);
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>{href}</D:href>\
         <D:propstat><D:prop><D:resourcetype>{kind}</D:resourcetype>{length}<D:getlastmodified>{modified}\
         </D:getlastmodified></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>\n"
    );
    let xml = [(header::CONTENT_TYPE, HeaderValue::from_static("application/xml; charset=utf-8"))];
    (StatusCode::MULTI_STATUS, xml, text).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
