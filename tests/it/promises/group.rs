//! `Group::close` counts who did not answer.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::line::in_memory;
use crate::support::*;
use wsync::{AcceptOptions, CloseCode, Compression, Group, Prepared, WebSocket};

const TIMEOUT: Duration = Duration::from_millis(500);

fn member(group: &Group, limit: usize) -> (WebSocket, WebSocket) {
    let (client, server) =
        in_memory(&options().compression(Compression::off()), &AcceptOptions::new().max_message_size(limit));
    group.add(&server);
    (client, server)
}

/// One member is stuck in what it has queued; five answer.
#[test]
fn one_stuck_member_counts_as_one() {
    for (is_first, has_unread, limit) in [
        (true, false, 1 << 20),
        (false, false, 1 << 20),
        (true, true, 1 << 20),
        (false, true, 10_000),
        (true, true, 10_000),
    ] {
        bounded(move || {
            let group = Group::new();
            let stuck = |group: &Group| {
                let (client, server) = member(group, limit);
                while server.try_send(&[1; 50_000]).is_ok() {}
                (client, server)
            };
            let first = is_first.then(|| stuck(&group));
            let answering: Vec<_> = (0..5).map(|_| member(&group, limit)).collect();
            let last = (!is_first).then(|| stuck(&group));
            if has_unread {
                for (client, _) in &answering {
                    // 60 KB, which is what a direction holds.
                    (0..6).for_each(|_| client.send(&[2; 9_900]).unwrap());
                }
            }
            let clients: Vec<_> = answering
                .iter()
                .map(|(client, _)| {
                    let client = client.clone();
                    spawn("client", move || (kind(client.recv()), client.close_code()))
                })
                .collect();
            let since = Instant::now();
            assert_eq!(group.close(CloseCode::GOING_AWAY, "stop", TIMEOUT).unwrap(), 1);
            assert!(since.elapsed() < TIMEOUT * 3, "{:?}", since.elapsed());
            for client in clients {
                assert_eq!(wait_for(client), (Ok(None), code(1001)));
            }
            for (_, server) in &answering {
                for _ in 0..if has_unread { 6 } else { 0 } {
                    assert_eq!(kind(server.recv()), Ok(binary(&[2; 9_900])));
                }
                assert_eq!((kind(server.recv()), server.close_code()), (Ok(None), code(1001)));
            }
            let (_client, server) = first.or(last).unwrap();
            assert_eq!(server.close_code(), code(1006));
        });
    }
}

/// What a member answered counts, although not all of what it had sent before could be kept.
#[test]
fn a_member_with_more_unread_messages_than_can_be_kept_has_answered_all_the_same() {
    bounded(|| {
        let group = Group::new();
        let (client, server) = member(&group, 10_000);
        let client = spawn("client", move || {
            let sender = client.clone();
            let sending = spawn("sending", move || while sender.send(&[2; 9_900]).is_ok() {});
            thread::sleep(Duration::from_millis(20));
            let end = (kind(client.recv()), client.close_code());
            wait_for(sending);
            end
        });
        thread::sleep(Duration::from_millis(50));
        // It reads nothing before the close, so that there is much to read in it.
        let count = group.close(CloseCode::GOING_AWAY, "stop", Duration::from_secs(10)).unwrap();
        assert_eq!(wait_for(client), (Ok(None), code(1001)));
        assert_eq!((count, server.close_code()), (0, code(1001)));
    });
}

#[test]
fn a_member_that_is_added_twice_gets_each_message_once() {
    bounded(|| {
        let group = Group::new();
        let (client, server) = member(&group, 1000);
        group.add(&server);
        group.add(&server.clone());
        assert_eq!(group.members().len(), 1);
        assert!(group.send(&Prepared::new("once")).is_empty());
        server.send("next").unwrap();
        assert_eq!((kind(client.recv()), kind(client.recv())), (Ok(text("once")), Ok(text("next"))));
    });
}

/// The group is closed from several threads, and while members come and go.
#[test]
fn a_group_may_be_closed_from_several_threads_at_once() {
    bounded(|| {
        let group = Group::new();
        let members: Vec<_> = (0..10).map(|_| member(&group, 1000)).collect();
        thread::scope(|scope| {
            for (client, _) in &members {
                scope.spawn(|| assert_eq!(kind(client.recv()), Ok(None)));
            }
            for _ in 0..3 {
                scope.spawn(|| {
                    assert_eq!(group.close(CloseCode::GOING_AWAY, "", Duration::from_secs(10)).unwrap(), 0);
                });
            }
            scope.spawn(|| {
                let (client, _server) = member(&group, 1000);
                assert_eq!(kind(client.recv()), Ok(None));
            });
        });
        assert!(members.iter().all(|(_, server)| server.close_code() == code(1001)));
    });
}
