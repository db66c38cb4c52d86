//! What a connection has for bursts and for large messages, and how long. Measured by a counting allocator, so this
//! binary's tests take turns.

use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::support::*;
use crate::{KB, MEMORY, turn};
use wsync::{Compression, ErrorKind, WebSocket};

/// A client over TLS, its peer, and its socket to look into.
fn watched() -> (WebSocket, Peer, TcpStream) {
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
    let _turn = turn();
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

/// A client masks it block by block; a server writes it from where it is.
#[test]
fn sending_a_large_message_takes_no_copy_of_it_and_leaves_nothing() {
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
            // Beside it there are what TLS makes of it, and what the peer reads with.
            assert!(peak < most + 320 * KB, "{side:?} {layer:?}: {peak}");
            // And it is given back when nothing comes.
            assert_eq!(kind(ws.try_recv()), Err(ErrorKind::Timeout));
            let kept = MEMORY.current_usage().saturating_sub(before);
            assert!(kept < 16 * KB, "{side:?} {layer:?}: {kept}");
        }
    });
}
