//! The head of a request, written as it goes onto the wire.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::Request;

/// 512 bytes: a head of ours, credential included, without growing.
const HEAD_BYTES: usize = 512;

/// The head of a request whose body has the length that its headers say. It is built from typed
/// parts alone, so that nobody's text can end a line.
pub(super) fn head(request: &Request<()>) -> Bytes {
    let target = request.uri().path_and_query();
    let mut head = BytesMut::with_capacity(HEAD_BYTES);
    head.put_slice(request.method().as_str().as_bytes());
    head.put_u8(b' ');
    head.put_slice(target.map_or("/", |target| target.as_str()).as_bytes());
    head.put_slice(b" HTTP/1.1\r\n");
    for (name, value) in request.headers() {
        head.put_slice(name.as_str().as_bytes());
        head.put_slice(b": ");
        head.put_slice(value.as_bytes());
        head.put_slice(b"\r\n");
    }
    head.put_slice(b"\r\n");
    head.freeze()
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
}
