//! The head of a request, written as it goes onto the wire.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, Request};

/// 512 bytes: a head of ours, credential included, without growing.
const HEAD_BYTES: usize = 512;

/// The head of a request whose body has the length that its headers say. It is built from typed
/// parts alone, so that nobody's text can end a line.
pub(in super::super) fn head(request: &Request<()>) -> Bytes {
    let target = request.uri().path_and_query();
    let target = target.map_or("/", |target| target.as_str());
    let mut head = RequestHead::begin(request.method(), [target, ""]);
    for (name, value) in request.headers() {
        head.add(name, value);
    }
    head.finish()
}

/// A head that is written line by line: without a map between, which a call would build to walk
/// over it once.
pub(in super::super) struct RequestHead(BytesMut);

impl RequestHead {
    /// Begins with the request's line. Its target comes in two parts: where the server's paths
    /// begin, and what is below.
    ///
    /// # Panics
    ///
    /// If the target has a white space or a control character: it is from a parsed URL, or escaped.
    pub(in super::super) fn begin(method: &Method, target: [&str; 2]) -> Self {
        let mut head = BytesMut::with_capacity(HEAD_BYTES);
        head.put_slice(method.as_str().as_bytes());
        head.put_u8(b' ');
        for part in target {
            assert!(
                part.bytes().all(|byte| byte > b' ' && byte != 0x7f),
                "a parsed URL's path and an escaped one below it have no white space"
            );
            head.put_slice(part.as_bytes());
        }
        head.put_slice(b" HTTP/1.1\r\n");
        Self(head)
    }

    /// Adds a header.
    pub(in super::super) fn add(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.0.put_slice(name.as_str().as_bytes());
        self.0.put_slice(b": ");
        self.0.put_slice(value.as_bytes());
        self.0.put_slice(b"\r\n");
    }

    /// Adds lines that are the same for every call, each with its end.
    pub(in super::super) fn add_lines(&mut self, lines: &'static str) {
        self.0.put_slice(lines.as_bytes());
    }

    /// Adds the body's length.
    pub(in super::super) fn add_length(&mut self, length: u64) {
        self.0.put_slice(b"content-length: ");
        self.0
            .put_slice(itoa::Buffer::new().format(length).as_bytes());
        self.0.put_slice(b"\r\n");
    }

    /// The whole head.
    pub(in super::super) fn finish(mut self) -> Bytes {
        self.0.put_slice(b"\r\n");
        self.0.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_written_whole() {
        let request = Request::post("/v1/x?y=z")
            .header("host", "engine:80")
            .header("content-length", "2")
            .body(())
            .expect("it is well formed");
        assert_eq!(
            head(&request),
            "POST /v1/x?y=z HTTP/1.1\r\nhost: engine:80\r\ncontent-length: 2\r\n\r\n"
        );
    }

    #[test]
    fn a_head_written_by_lines_is_the_same() {
        let mut lines = RequestHead::begin(&Method::POST, ["/v1", "/x?y=z"]);
        lines.add(&http::header::HOST, &HeaderValue::from_static("engine:80"));
        lines.add_lines("accept: */*\r\n");
        lines.add_length(2);
        let request = Request::post("/v1/x?y=z")
            .header("host", "engine:80")
            .header("accept", "*/*")
            .header("content-length", "2")
            .body(())
            .expect("it is well formed");
        assert_eq!(lines.finish(), head(&request));
    }

    #[test]
    #[should_panic(expected = "no white space")]
    fn a_target_cannot_end_its_line() {
        RequestHead::begin(&Method::GET, ["/v1", "/x HTTP/1.1\r\nhost: y"]);
    }
}
