//! The buffers that a connection allocates for bursts and for large messages, and when it frees them.

use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::support::*;
use crate::{KB, MEMORY, turn};
use wsync::{Compression, ErrorKind, WebSocket};

/// A client over TLS, its peer, and a handle of the client's socket.
fn tls_client_with_socket() -> (WebSocket, Peer, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let socket = stream.try_clone().unwrap();
    let server = spawn("server", move || {
        let mut peer = Peer::serve(listener.accept().unwrap().0, Layer::Tls13);
        peer.upgrade("");
        peer
    });
    let ws = options().compression(Compression::off()).connect_over("wss://127.0.0.1/", stream).unwrap();
    (ws, wait_for(server), socket)
}

/// Waits until the socket has this many bytes to read.
fn wait_for_bytes(socket: &TcpStream, count: usize) {
    let mut bytes = vec![0; count];
    // peek may time out, because the connection sets timeouts on the same socket.
    while socket.peek(&mut bytes).unwrap_or(0) < count {
        std::thread::yield_now();
    }
}

/// Part of a TLS record contains no data yet, but it counts as activity: buffers are freed only when nothing arrives.
#[test]
fn parts_of_tls_records_do_not_free_the_buffers() {
    let _turn = turn();
    bounded(|| {
        let (ws, mut peer, socket) = tls_client_with_socket();
        let burst = peer.on_the_wire(&frame(FIN | BINARY, &pattern(50 * KB, 1)));
        let idle = MEMORY.current_usage();
        peer.raw(&burst);
        wait_for_bytes(&socket, burst.len());
        drop(ws.recv().unwrap());
        let kept = MEMORY.current_usage();
        assert!(kept > idle + 32 * KB, "{idle}, {kept} bytes: the burst has grown no buffer");

        let record = peer.on_the_wire(&frame(FIN | TEXT, &[b'x'; 1000]));
        for part in record[..900].chunks(300) {
            peer.raw(part);
            wait_for_bytes(&socket, part.len());
            assert_eq!(kind(ws.try_recv()), Err(ErrorKind::WouldBlock));
            let now = MEMORY.current_usage();
            assert!(now + 4 * KB > kept, "{kept} bytes before a part of a record, {now} after it");
        }
        peer.raw(&record[900..]);
        assert_eq!(ws.recv().unwrap().unwrap().as_bytes(), [b'x'; 1000]);
        assert_eq!(kind(ws.try_recv()), Err(ErrorKind::WouldBlock));
        let now = MEMORY.current_usage();
        assert!(now < idle + 8 * KB, "{now} bytes when nothing arrives, {idle} before the burst");
    });
}

/// A client masks it in chunks, a server writes it from the caller's memory.
#[test]
fn sending_a_large_message_does_not_copy_it_and_frees_its_buffers() {
    let _turn = turn();
    bounded(|| {
        const SIZE: usize = 8 << 20;
        let payload = pattern(SIZE, 1);
        for (side, layer) in pairs() {
            let (ws, mut peer) = pair(side, layer);
            let before = MEMORY.current_usage();
            MEMORY.reset_peak_usage();
            thread::scope(|scope| {
                scope.spawn(|| ws.send_all([&payload]).unwrap());
                let mut block = vec![0; 64 * KB];
                (0..SIZE / block.len()).for_each(|_| peer.read_exact(&mut block));
            });
            let peak = MEMORY.peak_usage() - before;
            let most = if side == Side::Client { 1024 * KB } else { 64 * KB };
            // The rest is for TLS records and for the peer's read buffer.
            assert!(peak < most + 320 * KB, "{side:?} {layer:?}: {peak}");
            // Freed when a receiving call finds nothing.
            assert_eq!(kind(ws.try_recv()), Err(ErrorKind::WouldBlock));
            let kept = MEMORY.current_usage().saturating_sub(before);
            assert!(kept < 16 * KB, "{side:?} {layer:?}: {kept}");
        }
    });
}
