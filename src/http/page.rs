//! The page: the files of `web/`, built into the binary. Nothing on it is loaded from elsewhere, and its content security
//! policy says so.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

struct File {
    path: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

macro_rules! files {
    ($($path:literal, $kind:literal, $file:literal;)*) => {
        [$(File { path: $path, kind: $kind, content: include_bytes!(concat!("../../web/", $file)) },)*]
    };
}

static FILES: &[File] = &files! {
    "/", "text/html; charset=utf-8", "index.html";
    "/allocation.js", "text/javascript; charset=utf-8", "allocation.js";
    "/allocation_panel.js", "text/javascript; charset=utf-8", "allocation_panel.js";
    "/api.js", "text/javascript; charset=utf-8", "api.js";
    "/backoff.js", "text/javascript; charset=utf-8", "backoff.js";
    "/camera_list.js", "text/javascript; charset=utf-8", "camera_list.js";
    "/clock.js", "text/javascript; charset=utf-8", "clock.js";
    "/connections.js", "text/javascript; charset=utf-8", "connections.js";
    "/dom.js", "text/javascript; charset=utf-8", "dom.js";
    "/event_stream.js", "text/javascript; charset=utf-8", "event_stream.js";
    "/format.js", "text/javascript; charset=utf-8", "format.js";
    "/grid.js", "text/javascript; charset=utf-8", "grid.js";
    "/icon.svg", "image/svg+xml", "icon.svg";
    "/latency.js", "text/javascript; charset=utf-8", "latency.js";
    "/layout.js", "text/javascript; charset=utf-8", "layout.js";
    "/link_header.js", "text/javascript; charset=utf-8", "link_header.js";
    "/main.js", "text/javascript; charset=utf-8", "main.js";
    "/player.js", "text/javascript; charset=utf-8", "player.js";
    "/problem.js", "text/javascript; charset=utf-8", "problem.js";
    "/publish", "text/html; charset=utf-8", "publish.html";
    "/publish.js", "text/javascript; charset=utf-8", "publish.js";
    "/publisher.js", "text/javascript; charset=utf-8", "publisher.js";
    "/reception.js", "text/javascript; charset=utf-8", "reception.js";
    "/session.js", "text/javascript; charset=utf-8", "session.js";
    "/shared_session.js", "text/javascript; charset=utf-8", "shared_session.js";
    "/style.css", "text/css; charset=utf-8", "style.css";
    "/tile.js", "text/javascript; charset=utf-8", "tile.js";
    "/token_dialog.js", "text/javascript; charset=utf-8", "token_dialog.js";
    "/wait.js", "text/javascript; charset=utf-8", "wait.js";
    "/weight.js", "text/javascript; charset=utf-8", "weight.js";
    "/whep.js", "text/javascript; charset=utf-8", "whep.js";
    "/whip.js", "text/javascript; charset=utf-8", "whip.js";
};

/// Nothing from elsewhere: no scripts, no styles, no frames; media come over WebRTC, which no directive covers.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      manifest-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

/// Routes for all files.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |router, file| {
        router.route(file.path, get(move |headers: HeaderMap| async move { serve(file, &headers) }))
    })
}

fn serve(file: &File, request: &HeaderMap) -> Response {
    let mut hasher = DefaultHasher::new();
    file.content.hash(&mut hasher);
    let etag = format!("\"{:016x}\"", hasher.finish());
    let unchanged = request.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let mut response = if unchanged { StatusCode::NOT_MODIFIED.into_response() } else { file.content.into_response() };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
    // Asked for anew each time, sent anew only after an update.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::ETAG, HeaderValue::from_str(&etag).expect("it is hexadecimal in quotes"));
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/web");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        // It tells Node what the modules are, for the tests; browsers know.
        let there: BTreeSet<String> = names.filter(|name| name != "package.json").collect();
        let name = |file: &File| match file.path {
            "/" => "index.html".to_owned(),
            path if !path.contains('.') => format!("{}.html", &path[1..]),
            path => path[1..].to_owned(),
        };
        assert_eq!(FILES.iter().map(name).collect::<BTreeSet<_>>(), there);
    }
}
