//! How long a connection keeps what it has for bursts. Measured by a counting allocator, so it has this binary to itself.
#![cfg(target_os = "linux")]

mod common;

use std::net::{TcpListener, TcpStream};

use common::*;
use peak_alloc::PeakAlloc;
use wsync::{Compression, ErrorKind, WebSocket};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const KB: usize = 1024;

/// A client over TLS, its peer, and its socket to look into.
fn watched() -> (WebSocket, Peer, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let socket = stream.try_clone().unwrap();
    let server = spawn("server", move || {
        let mut peer = Peer::serve(listener.accept().unwrap().0, Wire::Tls13);
        peer.upgrade("");
        peer
    });
    let ws = options().compression(Compression::off()).connect_over("wss://127.0.0.1/", stream).unwrap();
    (ws, wait_for(server), socket)
}

/// Waits until so many bytes lie in the socket.
fn wait_for_bytes(socket: &TcpStream, count: usize) {
    let mut bytes = vec![0; count];
    // The connection's own bounds may end a wait here, too.
    while socket.peek(&mut bytes).unwrap_or(0) < count {
        std::thread::yield_now();
    }
}

/// Part of a TLS record shows nothing yet, but it is no idle moment: the buffers stay until nothing comes at all.
#[test]
fn parts_of_tls_records_leave_the_buffers_as_they_are() {
    bounded(|| {
        let (ws, mut peer, socket) = watched();
        let burst = peer.on_the_wire(&frame(FIN | BINARY, &pattern(50 * KB, 1)));
        let idle = MEMORY.current_usage();
        peer.raw(&burst);
        wait_for_bytes(&socket, burst.len());
        drop(ws.recv().unwrap());
        let kept = MEMORY.current_usage();
        assert!(kept > idle + 32 * KB, "{idle}, {kept} bytes: the burst has made no buffer large");

        let record = peer.on_the_wire(&frame(FIN | TEXT, &[b'x'; 1000]));
        for part in record[..900].chunks(300) {
            peer.raw(part);
            wait_for_bytes(&socket, part.len());
            assert_eq!(kind(ws.try_recv()), Err(ErrorKind::Timeout));
            let now = MEMORY.current_usage();
            assert!(now + 4 * KB > kept, "{kept} bytes before a part of a record, {now} after it");
        }
        peer.raw(&record[900..]);
        assert_eq!(ws.recv().unwrap().unwrap().as_bytes(), [b'x'; 1000]);
        assert_eq!(kind(ws.try_recv()), Err(ErrorKind::Timeout));
        let now = MEMORY.current_usage();
        assert!(now < idle + 8 * KB, "{now} bytes when nothing comes, {idle} before the burst");
    });
}
