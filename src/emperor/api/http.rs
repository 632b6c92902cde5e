//! The part of HTTP that it takes to serve one text (RFC 9110): GET and HEAD, for any path.

use std::fmt::Write as _;

/// The supported methods, as in the header `Allow`.
const ALLOW: &str = "GET, HEAD";

/// The answer to a request: the text that `body` makes, or an error message.
pub fn respond(request: &[u8], content_type: &str, body: impl FnOnce() -> String) -> Vec<u8> {
    match method(request) {
        Some(b"GET") => message("200 OK", content_type, &body(), true),
        // The same header, with the length of the text that HEAD leaves out.
        Some(b"HEAD") => message("200 OK", content_type, &body(), false),
        Some(_) => message("405 Method Not Allowed", PLAIN, "only GET and HEAD are understood\n", true),
        None => message("400 Bad Request", PLAIN, "this is no request\n", true),
    }
}

/// The content type of error messages.
const PLAIN: &str = "text/plain; charset=utf-8";

/// The method of a request: its first word, if a path or a URI follows.
fn method(request: &[u8]) -> Option<&[u8]> {
    let line = request.split(|&byte| byte == b'\n').next()?.trim_ascii_end();
    let mut words = line.split(|&byte| byte == b' ');
    let (method, target) = (words.next()?, words.next()?);
    let is_token = !method.is_empty() && method.iter().all(u8::is_ascii_alphabetic);
    let is_target = target.starts_with(b"/") || target.starts_with(b"http") || target == b"*";
    (is_token && is_target).then_some(method)
}

fn message(status: &str, content_type: &str, body: &str, has_body: bool) -> Vec<u8> {
    let mut text = format!("HTTP/1.0 {status}\r\nContent-Type: {content_type}\r\n");
    if status.starts_with("405") {
        let _ = write!(text, "Allow: {ALLOW}\r\n");
    }
    let _ = write!(text, "Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    if has_body {
        text.push_str(body);
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(request: &str) -> String {
        String::from_utf8(respond(request.as_bytes(), "text/x", || "body\n".to_owned())).unwrap()
    }

    #[test]
    fn head_is_answered_like_get_without_the_body() {
        let get = answer("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        let header =
            "HTTP/1.0 200 OK\r\nContent-Type: text/x\r\nContent-Length: 5\r\nConnection: close\r\n\r\n";
        assert_eq!(get, format!("{header}body\n"));
        assert_eq!(answer("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), header);
        assert_eq!(answer("GET http://host/metrics HTTP/1.1\n\n"), get);
    }

    #[test]
    fn other_methods_are_told_which_ones_there_are() {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "get"] {
            let text = answer(&format!("{method} / HTTP/1.1\r\n\r\n"));
            assert!(text.starts_with("HTTP/1.0 405 Method Not Allowed\r\n"), "{text}");
            assert!(text.contains("\r\nAllow: GET, HEAD\r\n"), "{text}");
        }
        for nonsense in ["", "\r\n\r\n", "GET", "GET \r\n", " GET / HTTP/1.0", "\x16\x03\x01 / x", "GET x"] {
            assert!(answer(nonsense).starts_with("HTTP/1.0 400 Bad Request\r\n"), "{nonsense:?}");
        }
    }
}
