//! Redirects between servers on loopback.

use std::net::{Shutdown, TcpListener};
use std::sync::{Arc, Mutex};

use crate::support::*;
use wsync::{ErrorKind, WebSocket};

/// A server whose port is known before its responses are chosen.
struct Origin {
    listener: TcpListener,
    layer: Layer,
}

impl Origin {
    fn new(layer: Layer) -> Origin {
        Origin { listener: TcpListener::bind("127.0.0.1:0").unwrap(), layer }
    }

    fn authority(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", scheme(self.layer), self.authority())
    }

    /// Serves one connection for each of these responses: `STATUS LOCATION`, or an empty string for the upgrade.
    fn serve<S: Into<String>>(self, responses: impl IntoIterator<Item = S>) -> Job<Vec<Peer>> {
        let responses: Vec<String> = responses.into_iter().map(Into::into).collect();
        spawn("origin", move || responses.iter().map(|response| self.serve_one(response)).collect())
    }

    fn serve_one(&self, response: &str) -> Peer {
        let mut peer = Peer::serve(self.listener.accept().unwrap().0, self.layer);
        match response.split_once(' ') {
            None => peer.upgrade(""),
            Some((status, location)) => {
                peer.read_head();
                peer.write(
                    format!("HTTP/1.1 {status} x\r\nLocation: {location}\r\nContent-Length: 2\r\n\r\nhi").as_bytes(),
                );
            }
        }
        peer
    }
}

/// The targets of the requests.
fn targets(peers: &[Peer]) -> Vec<&str> {
    peers.iter().map(|peer| peer.head.split(' ').nth(1).unwrap()).collect()
}

fn urls(ws: &WebSocket) -> Vec<&str> {
    ws.redirects().iter().chain(ws.url()).map(|url| url.as_str()).collect()
}

#[test]
fn every_redirect_status_and_every_form_of_location_is_followed() {
    on_every_layer(|layer| {
        let origin = Origin::new(layer);
        let (scheme, authority) = (if layer == Layer::Plain { "http" } else { "https" }, origin.authority());
        let start = origin.url("/a/b?c");
        let whole = origin.url("/f?x=1");
        let server = origin.serve([
            "301 d".to_string(),
            "302 /e?f".into(),
            format!("303 {scheme}://{authority}/g"),
            format!("307 //{authority}/h"),
            format!("308 {whole}#fragment"),
            String::new(),
        ]);
        let ws = options().connect(&start).unwrap();
        let peers = wait_for(server);
        assert_eq!(targets(&peers), ["/a/b?c", "/a/d", "/e?f", "/g", "/h", "/f?x=1"]);
        let base = start.trim_end_matches("/a/b?c");
        let expected = ["/a/b?c", "/a/d", "/e?f", "/g", "/h", "/f?x=1"].map(|path| format!("{base}{path}"));
        assert_eq!(urls(&ws), expected);
        let mut keys: Vec<&str> = peers.iter().flat_map(|peer| peer.header("Sec-WebSocket-Key")).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 6, "a key was used twice");
        for peer in &peers {
            assert!(peer.head.starts_with("GET "), "{}", peer.head);
            assert_eq!(peer.header("Host"), [&authority]);
        }
    });
}

#[test]
fn too_many_redirects_are_an_error_that_names_all_of_them() {
    bounded(|| {
        for most in [1, 2, 5] {
            let origin = Origin::new(Layer::Plain);
            let (url, authority) = (origin.url("/0?token=secret"), origin.authority());
            let server = origin.serve((1..=most + 1).map(|hop| format!("302 /{hop}")));
            let error = options().max_redirects(most).connect(&url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Redirect, "{error}");
            assert_eq!(error.response().map(|response| response.status()), Some(302));
            let text = error.to_string();
            let chain: Vec<String> = (1..=most).map(|hop| format!("ws://{authority}/{hop}")).collect();
            assert!(text.contains(&format!("more than {most} redirects")), "{text}");
            assert!(text.contains(&chain.join(" -> ")) && !text.contains("secret"), "{text}");
            assert_eq!(wait_for(server).len(), most as usize + 1);
        }
        let origin = Origin::new(Layer::Plain);
        let url = origin.url("/");
        let server = origin.serve(["302 /x"]);
        let error = options().max_redirects(0).connect(&url).unwrap_err();
        assert_eq!((error.kind(), error.response().unwrap().body()), (ErrorKind::Rejected, b"hi" as &[u8]));
        wait_for(server);
    });
}

#[test]
fn an_error_after_redirects_names_them() {
    bounded(|| {
        for (answer, expected) in [("404 -", ErrorKind::Rejected), ("302 ftp://h/", ErrorKind::Redirect)] {
            let origin = Origin::new(Layer::Plain);
            let url = origin.url("/first");
            let server = origin.serve(["302 /second", answer]);
            let error = options().connect(&url).unwrap_err();
            assert_eq!(error.kind(), expected, "{error}");
            assert!(error.to_string().contains("/first"), "{error}");
            wait_for(server);
        }
    });
}

/// The origins differ in their ports. Credentials for the first are not sent to the second, nor after a redirect back.
#[test]
fn credentials_are_not_sent_after_a_redirect_to_another_origin() {
    bounded(|| {
        let own = [
            ("authorization", "Bearer own"),
            ("Cookie", "a=b"),
            ("Host", "own.example"),
            ("Proxy-Authorization", "Basic own"),
        ];
        for with_user in [true, false] {
            let (a, b) = (Origin::new(Layer::Plain), Origin::new(Layer::Plain));
            let (a_name, b_name) = (a.authority(), b.authority());
            let mut url = a.url("/1");
            let mut options = options().header("X-Other", "stays");
            if with_user {
                url = url.replace("//", "//user:pass@");
            } else {
                for (name, value) in own {
                    options = options.header(name, value);
                }
            }
            let back = a.url("/3").replace("//", "//eve:eve@");
            let to_b = b.url("/b");
            let first = a.serve(["302 /2".to_string(), format!("307 {to_b}"), String::new()]);
            let second = b.serve([format!("308 {back}")]);
            let ws = options.connect(&url).unwrap();
            assert!(urls(&ws).iter().all(|url| !url.contains('@')), "{:?}", urls(&ws));
            let (first, second) = (wait_for(first), wait_for(second));
            for peer in first.iter().chain(&second) {
                assert_eq!(peer.header("X-Other"), ["stays"]);
            }
            for peer in &first[..2] {
                if with_user {
                    assert_eq!(peer.header("Authorization"), ["Basic dXNlcjpwYXNz"]);
                    assert_eq!(peer.header("Host"), [&a_name]);
                } else {
                    assert!(own.iter().all(|(name, value)| peer.header(name) == [*value]), "{}", peer.head);
                }
            }
            for (peer, host) in [(&second[0], &b_name), (&first[2], &a_name)] {
                let head = peer.head.to_lowercase();
                assert!(!head.contains("authorization") && !head.contains("cookie"), "{}", peer.head);
                assert_eq!(peer.header("Host"), [host]);
            }
        }
    });
}

#[test]
fn the_hook_decides_about_each_redirect() {
    bounded(|| {
        let origin = Origin::new(Layer::Plain);
        let (url, base) = (origin.url("/1"), origin.url(""));
        let server = origin.serve(["301 /2", "302 /3"]);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let hook = {
            let seen = seen.clone();
            move |answer: &wsync::Response, to: &wsync::Url| {
                seen.lock().unwrap().push((answer.status(), to.to_string()));
                to.path() != "/3"
            }
        };
        let error = options().on_redirect(hook).connect(&url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
        assert_eq!(error.response().unwrap().header("location"), Some("/3"));
        assert!(error.to_string().contains(&format!("after redirects: {url}")), "{error}");
        assert_eq!(*seen.lock().unwrap(), [(301, format!("{base}/2")), (302, format!("{base}/3"))]);
        wait_for(server);
    });
}

#[test]
fn frames_that_arrive_with_the_last_response_are_received_first() {
    on_every_layer(|layer| {
        let origin = Origin::new(layer);
        let url = origin.url("/1");
        let server = spawn("origin", move || {
            // The end of the connection ends this body.
            let mut first = Peer::serve(origin.listener.accept().unwrap().0, layer);
            first.read_head();
            first.write(b"HTTP/1.1 302 x\r\nLocation: /2\r\n\r\nmoved");
            first.tcp().shutdown(Shutdown::Write).unwrap();
            let mut peer = Peer::serve(origin.listener.accept().unwrap().0, layer);
            peer.read_head();
            let accept = peer.accept_key();
            peer.write(&[peer::response(&accept, ""), frame(FIN | TEXT, b"first")].concat());
            peer
        });
        let ws = options().connect(&url).unwrap();
        assert_eq!(kind(ws.recv()), Ok(text("first")));
        wait_for(server);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn redirects_from_ws_to_wss_are_followed_and_the_reverse_is_an_error() {
    bounded(|| {
        for scheme in ["https", "wss"] {
            let (plain, tls) = (Origin::new(Layer::Plain), Origin::new(Layer::Tls13));
            let url = plain.url("/");
            let (first, second) = (plain.serve([format!("301 {scheme}://{}/x", tls.authority())]), tls.serve([""]));
            let ws = options().header("Cookie", "a=b").connect(&url).unwrap();
            wait_for(first);
            let second = wait_for(second);
            assert_eq!((targets(&second), second[0].header("Cookie")), (vec!["/x"], vec![]));
            assert!(ws.url().unwrap().as_str().starts_with("wss://"));
        }
        for scheme in ["http", "ws"] {
            let (plain, tls) = (Origin::new(Layer::Plain), Origin::new(Layer::Tls13));
            let url = tls.url("/");
            let server = tls.serve([format!("302 {scheme}://{}/", plain.authority())]);
            let never_called = |_: &wsync::Response, _: &wsync::Url| panic!("the hook was called");
            let error = options().on_redirect(never_called).connect(&url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Redirect, "{error}");
            assert!(error.to_string().contains("wss to ws"), "{error}");
            wait_for(server);
            plain.listener.set_nonblocking(true).unwrap();
            assert!(plain.listener.accept().is_err(), "the client connected to it");
        }
    });
}
