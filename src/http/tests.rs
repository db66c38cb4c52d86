//! Heads and bodies together, and responses as users see them.

use proptest::prelude::*;

use super::head::tests::parse;
use super::*;

#[test]
fn a_response_shows_what_came_but_not_in_debug() {
    let head = parse(HeadParser::response(), b"HTTP/1.1 401 No\r\nSet-Cookie: secret\r\nX: 1\r\nx: 2\r\n\r\n").unwrap();
    let response = Response::received(head, b"body".to_vec());
    assert_eq!((response.status(), response.reason(), response.body()), (401, "No", &b"body"[..]));
    assert_eq!(response.header("x"), Some("1"));
    assert_eq!(response.headers().collect::<Vec<_>>(), [("Set-Cookie", "secret"), ("X", "1"), ("x", "2")]);
    assert!(!format!("{response:?}").contains("secret"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn headers_come_back_as_they_were_written(
        written in prop::collection::vec(("[!#$%&'*+.^_`|~0-9A-Za-z-]{1,8}", "([!-~é\u{a0}-\u{2fff}]([ \t!-~]{0,9}[!-~])?)?"), 0..6),
    ) {
        let mut headers = Headers::default();
        for (name, value) in &written {
            headers.push(name, value);
        }
        let head = parse(HeadParser::response(), &headers.to_bytes("HTTP/1.1 200 OK")).unwrap();
        prop_assert_eq!(head.headers.iter().collect::<Vec<_>>(), headers.iter().collect::<Vec<_>>());
    }

    #[test]
    fn junk_never_panics(input in prop::collection::vec(any::<u8>(), 0..64)) {
        let head = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", &input[..], b"\r\n\r\n"].concat();
        if let Ok((taken, Some(head))) = HeadParser::response().feed(&head) {
            prop_assert!(taken > 0);
            let mut body = Body::of(&head);
            body.feed(&input);
        }
        let _ = HeadParser::request().feed(&input);
    }
}
