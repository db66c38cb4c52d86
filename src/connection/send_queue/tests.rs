use std::collections::BTreeSet;

use super::*;
use crate::error::ErrorKind;
use crate::protocol::{DeflateParameters, Fin};
use crate::sync::this_thread;

const SMALL: Need = Need::Message(10);

const MAX_QUEUED: usize = 256 * 1024;

/// A server's queue: its frames have no masks, and so known bytes.
fn queue() -> SendQueue {
    SendQueue::new(Role::Server, WriteState::default(), None, MAX_QUEUED)
}

fn compressing_queue() -> SendQueue {
    let agreed = DeflateParameters {
        client_no_context_takeover: false,
        server_no_context_takeover: false,
        client_max_window_bits: 15,
        server_max_window_bits: 15,
    };
    SendQueue::new(Role::Server, WriteState::default(), MessageCompressor::new(Role::Server, agreed, 6, 0), MAX_QUEUED)
}

fn error() -> Error {
    Error::new(ErrorKind::Io, "lost")
}

/// Queues a message of which the frame is two bytes longer.
fn queue_message(queue: &mut SendQueue, payload: &[u8]) {
    queue.queue_message(MessageKind::Binary, &[payload]).unwrap();
}

fn take_writer(queue: &mut SendQueue) -> Box<WriteHalf> {
    queue.take_writer(WriterSlot::Writing).expect("in its place")
}

/// The system takes all of the batch.
fn write_all(writer: &mut WriteHalf) {
    writer.written = writer.batch.len();
}

/// The writer fetches all that is queued, writes it and goes back.
fn write_queued(queue: &mut SendQueue) -> Vec<u8> {
    let mut writer = take_writer(queue);
    queue.fetch(&mut writer, 0).unwrap();
    let batch = writer.batch.clone();
    write_all(&mut writer);
    queue.return_writer(writer);
    batch
}

#[test]
fn an_empty_queue_allows_everything_and_has_nothing_to_write() {
    let queue = queue();
    for need in [SMALL, Need::Message(usize::MAX), SMALL, Need::Frame(1), Need::Writer, Need::Compressor, Need::Start] {
        assert!(queue.is_ready(need, None, 0), "{need:?}");
    }
    assert!(queue.is_empty() && !queue.needs_writer() && !queue.is_left_behind() && !queue.has_turns());
    assert!(queue.is_open() && queue.is_between_messages() && queue.is_writer_idle() && !queue.is_flushing());
    assert!(!queue.is_closing() && !queue.is_close_written() && queue.failure().is_none());
    assert_eq!((queue.end(), queue.buffered(0), queue.is_written(0)), (0, 0, true));
}

// Room.

#[test]
fn what_is_accepted_and_not_taken_stays_within_the_bound() {
    let mut queue = queue();
    queue_message(&mut queue, &vec![0; MAX_QUEUED - 100]);
    assert_eq!(queue.buffered(0), MAX_QUEUED - 90);
    assert!(queue.fits(90, 0) && !queue.fits(91, 0));
    // Also while it is being written; what the system takes meanwhile makes room.
    let mut writer = take_writer(&mut queue);
    queue.fetch(&mut writer, 1000).unwrap();
    assert!(queue.fits(90, 1000) && !queue.fits(91, 1000));
    assert!(queue.fits(91, 1001) && !queue.fits(92, 1001));
    queue_message(&mut queue, &[0; 89]);
    assert!(queue.fits(0, 1001) && !queue.fits(1, 1001));
    // A direct message behind it counts nothing: more is taken than was in flight.
    assert_eq!(queue.buffered(u64::MAX), 91);
    write_all(&mut writer);
    queue.return_writer(writer);
    assert_eq!(queue.buffered(1000), 91);
}

#[test]
fn one_message_alone_may_be_larger_than_the_bound() {
    let mut queue = queue();
    assert!(queue.fits(10 * MAX_QUEUED, 0));
    queue_message(&mut queue, b"x");
    assert!(!queue.fits(10 * MAX_QUEUED, 0) && queue.fits(10, 0));
    write_queued(&mut queue);
    queue_message(&mut queue, &vec![0; 10 * MAX_QUEUED]);
    assert!(!queue.fits(0, 0));
    let mut writer = take_writer(&mut queue);
    queue.fetch(&mut writer, 0).unwrap();
    assert!(!queue.fits(0, 9 * MAX_QUEUED as u64) && queue.fits(0, 10 * MAX_QUEUED as u64));
}

#[test]
fn a_full_queue_makes_senders_wait_where_somebody_writes() {
    for holder in [WriterSlot::Writing, WriterSlot::Flushing] {
        let mut queue = queue();
        queue_message(&mut queue, &vec![0; MAX_QUEUED]);
        // With the writer in its place, the sender writes itself.
        assert!(queue.is_ready(SMALL, None, 0));
        let mut writer = queue.take_writer(holder).unwrap();
        assert!(!queue.is_ready(SMALL, None, 0) && !queue.is_ready(Need::Frame(1), None, 0));
        assert!(!queue.is_ready(Need::Writer, None, 0));
        // Whether it has fetched the queue or not.
        queue.fetch(&mut writer, 0).unwrap();
        assert!(!queue.is_ready(SMALL, None, 0) && queue.is_ready(SMALL, None, 100));
    }
}

#[test]
fn a_batch_is_worth_writing_from_64_kib_on() {
    let mut queue = queue();
    queue_message(&mut queue, &vec![0; 64 * 1024 - 5]);
    assert!(!queue.is_worth_writing());
    queue_message(&mut queue, b"");
    assert!(queue.is_worth_writing());
}

// Turns.

#[test]
fn senders_go_in_turn() {
    let mut queue = queue();
    let writer = take_writer(&mut queue);
    let first = queue.take_turn(Need::Writer);
    let second = queue.take_turn(SMALL);
    assert!(queue.has_turns() && second > first);
    assert!(!queue.is_ready(Need::Writer, Some(first), 0), "somebody writes");
    assert!(queue.is_ready(SMALL, Some(second), 0), "there is room in the queue");
    queue.return_writer(writer);
    assert!(queue.is_ready(Need::Writer, Some(first), 0));
    assert!(!queue.is_ready(Need::Writer, None, 0), "who comes now goes behind");
    queue.leave_turn(first);
    assert!(!queue.is_ready(Need::Writer, None, 0));
    queue.leave_turn(second);
    assert!(queue.is_ready(Need::Writer, None, 0) && !queue.has_turns());
}

#[test]
fn who_comes_now_may_queue_what_fits_before_those_who_wait() {
    let mut queue = queue();
    queue_message(&mut queue, &vec![0; MAX_QUEUED - 200]);
    let first = queue.take_turn(Need::Message(1000));
    assert!(queue.is_ready(Need::Message(1000), Some(first), 0), "the first writes what is there");
    assert!(queue.is_ready(Need::Message(100), None, 0));
    assert!(!queue.is_ready(Need::Message(1000), None, 0), "this would grow the queue before its turn");
}

#[test]
fn a_yielding_writer_takes_nothing_more_from_who_waits_for_room() {
    let mut queue = queue();
    let writer = take_writer(&mut queue);
    queue.yield_writer();
    assert!(!queue.is_ready(SMALL, None, 0) && !queue.is_ready(Need::Frame(1), None, 0));
    assert!(queue.fits(10, 0), "it does not concern those who never wait");
    queue.return_writer(writer);
    assert!(queue.is_ready(SMALL, None, 0));
}

/// Who waits for the end of a message in parts holds up nobody.
#[test]
fn only_a_sender_that_could_go_on_counts_as_before() {
    let mut queue = queue();
    queue.begin_fragmented(this_thread());
    let message = queue.take_turn(SMALL);
    assert!(!queue.has_turns(), "it does not write what is queued");
    assert!(queue.is_ready(Need::Frame(10), None, 0));
    assert!(!queue.is_ready(SMALL, Some(message), 0) && !queue.is_ready(Need::Start, None, 0));
    queue.end_fragmented(this_thread());
    assert!(queue.has_turns() && queue.is_ready(SMALL, Some(message), 0));
    assert!(!queue.is_ready(Need::Start, None, 0), "the next message in parts comes behind it");
    queue.leave_turn(message);
    assert!(queue.is_ready(Need::Start, None, 0));
}

#[test]
fn who_waits_for_a_start_or_the_compressor_leaves_the_writing_to_others() {
    let mut queue = compressing_queue();
    queue_message(&mut queue, b"x");
    for need in [Need::Start, Need::Compressor, Need::CompressedStart] {
        let ticket = queue.take_turn(need);
        assert!(!queue.has_turns() && queue.is_left_behind(), "{need:?}");
        assert!(queue.is_ready(SMALL, None, 0) && queue.is_ready(Need::Writer, None, 0), "{need:?}");
        queue.leave_turn(ticket);
    }
    let ticket = queue.take_turn(Need::Writer);
    assert!(queue.has_turns() && !queue.is_left_behind() && queue.needs_writer());
    queue.leave_turn(ticket);
    assert!(queue.is_left_behind());
}

// The compressor.

#[test]
fn the_compressor_is_had_in_turn_and_a_start_needs_it_only_to_compress() {
    let mut queue = compressing_queue();
    let taken = queue.take_compressor().unwrap();
    assert!(queue.take_compressor().is_none());
    assert!(!queue.is_ready(Need::Compressor, None, 0) && !queue.is_ready(Need::CompressedStart, None, 0));
    assert!(queue.is_ready(Need::Start, None, 0) && queue.is_ready(SMALL, None, 0));
    let start = queue.take_turn(Need::CompressedStart);
    queue.return_compressor(taken);
    assert!(!queue.is_ready(Need::Compressor, None, 0), "the start came first");
    assert!(queue.is_ready(Need::CompressedStart, Some(start), 0));
    queue.leave_turn(start);
    assert!(queue.is_ready(Need::Compressor, None, 0));
    queue.begin_fragmented(this_thread());
    assert!(!queue.is_ready(Need::Compressor, None, 0), "a message may not begin");
    assert!(queue.take_compressor().is_some());
}

#[test]
fn without_compression_there_is_no_compressor_to_take_and_none_to_wait_for() {
    let mut queue = queue();
    assert!(queue.take_compressor().is_none() && queue.take_compressor().is_none());
    assert!(queue.is_ready(Need::Compressor, None, 0) && queue.is_ready(Need::CompressedStart, None, 0));
}

// The writer.

#[test]
fn the_writer_is_with_one_and_goes_back() {
    let mut queue = queue();
    let writer = queue.take_writer(WriterSlot::Flushing).unwrap();
    assert!(queue.is_flushing() && !queue.is_writer_idle());
    assert!(queue.take_writer(WriterSlot::Writing).is_none());
    assert!(queue.is_flushing(), "the slot is as it was");
    queue_message(&mut queue, b"x");
    assert!(!queue.needs_writer(), "somebody has it, and looks again");
    queue.return_writer(writer);
    assert!(queue.needs_writer() && queue.is_writer_idle() && !queue.is_flushing());
}

#[test]
fn what_a_writer_brings_back_unwritten_needs_a_writer() {
    let mut queue = queue();
    queue_message(&mut queue, b"abc");
    let mut writer = queue.take_writer(WriterSlot::Flushing).unwrap();
    queue.fetch(&mut writer, 0).unwrap();
    assert!(queue.is_empty());
    writer.written = 2;
    queue.return_writer(writer);
    assert!(queue.needs_writer() && queue.is_left_behind());
    assert_eq!((queue.buffered(0), queue.buffered(2)), (5, 3));
    let mut writer = take_writer(&mut queue);
    assert_eq!((&writer.batch[..], writer.written), (&[0x82, 3, b'a', b'b', b'c'][..], 2));
    write_all(&mut writer);
    queue.return_writer(writer);
    assert!(!queue.needs_writer() && queue.buffered(0) == 0);
}

#[test]
fn output_of_tls_needs_a_writer_once() {
    let mut queue = queue();
    queue.tls_output = true;
    assert!(queue.needs_writer());
    assert_eq!(write_queued(&mut queue), []);
    assert!(!queue.needs_writer());
}

#[test]
fn large_buffers_are_given_back_when_all_is_written() {
    let mut queue = queue();
    queue_message(&mut queue, &vec![0; 100_000]);
    write_queued(&mut queue);
    // The next one swaps the batch's buffer into the queue's place.
    queue_message(&mut queue, b"x");
    write_queued(&mut queue);
    let writer = take_writer(&mut queue);
    assert!(writer.batch.capacity() <= RETAINED_CAPACITY && queue.frames.capacity() <= RETAINED_CAPACITY);
}

#[test]
fn buffers_up_to_the_limit_are_kept_and_so_are_bytes() {
    const LIMIT: usize = 4 * 1024;
    // With the room that the encoder reserves for a header, the first has exactly the largest capacity that is kept.
    for (length, capacity) in [(LIMIT - 14, LIMIT), (LIMIT - 13, 0)] {
        let mut queue = queue();
        queue_message(&mut queue, &vec![0; length]);
        write_queued(&mut queue);
        assert_eq!(take_writer(&mut queue).batch.capacity(), capacity);
        // The buffer comes into the queue's place when the same writer fetches twice.
        let mut queue = self::queue();
        queue_message(&mut queue, &vec![0; length]);
        let mut writer = take_writer(&mut queue);
        queue.fetch(&mut writer, 0).unwrap();
        write_all(&mut writer);
        queue_message(&mut queue, b"x");
        queue.fetch(&mut writer, 0).unwrap();
        write_all(&mut writer);
        queue.return_writer(writer);
        assert_eq!(queue.frames.capacity(), capacity);
    }
    let mut queue = queue();
    queue_message(&mut queue, &[1; 100_000]);
    let mut writer = take_writer(&mut queue);
    queue.fetch(&mut writer, 0).unwrap();
    queue_message(&mut queue, &[2; 100_000]);
    queue.return_writer(writer);
    assert_eq!(queue.buffered(0), 2 * 100_010);
    let mut writer = take_writer(&mut queue);
    assert_eq!(writer.batch.len(), 100_010);
    write_all(&mut writer);
    queue.return_writer(writer);
    assert_eq!(write_queued(&mut queue).len(), 100_010);
}

// Positions.

#[test]
fn positions_count_what_the_system_has_taken_of_the_frames() {
    let mut queue = queue();
    queue_message(&mut queue, b"abc");
    let first = queue.end();
    queue_message(&mut queue, b"d");
    let second = queue.end();
    assert_eq!((first, second), (5, 8));
    let mut writer = take_writer(&mut queue);
    queue.fetch(&mut writer, 0).unwrap();
    queue_message(&mut queue, b"e");
    assert_eq!(queue.end(), 11);
    for (written, expected) in [(0, [false; 3]), (4, [false; 3]), (5, [true, false, false]), (8, [true, true, false])] {
        writer.written = written;
        queue.note_written(&writer);
        assert_eq!([first, second, queue.end()].map(|end| queue.is_written(end)), expected, "{written}");
    }
    queue.fetch(&mut writer, 8).unwrap();
    assert!(queue.is_written(second) && !queue.is_written(11));
    write_all(&mut writer);
    queue.return_writer(writer);
    assert!(queue.is_written(11));
}

/// The peer cannot decrypt a part of a record: with TLS, what counts is the records that are out completely.
#[test]
fn with_tls_a_frame_is_written_when_the_record_of_its_last_byte_is_out() {
    let mut queue = queue();
    queue_message(&mut queue, b"abc");
    let first = queue.end();
    queue.queue_ping(b"").unwrap();
    queue_message(&mut queue, &[7; 10]);
    let ends = [first, first + 2, queue.end()];
    assert_eq!(ends, [5, 7, 19]);
    let mut writer = take_writer(&mut queue);
    queue.fetch(&mut writer, 0).unwrap();
    // TLS has taken all: the first message with three bytes of what follows, then the rest in two records.
    write_all(&mut writer);
    writer.wire = WriteState::of_records(&[(40, 8), (35, 4), (36, 7)]);
    assert!(writer.batch_written() && !writer.is_idle());
    let mut pings = 0;
    for (taken, unwritten, expected) in [
        (0, 19, [false; 3]),
        (39, 19, [false; 3]),
        (40, 11, [true, true, false]),
        (75, 7, [true, true, false]),
        (110, 7, [true, true, false]),
        (111, 0, [true; 3]),
    ] {
        writer.wire.set_taken(taken);
        assert_eq!(writer.unwritten_frames(), unwritten, "{taken}");
        queue.note_written(&writer);
        assert_eq!(ends.map(|end| queue.is_written(end)), expected, "{taken}");
        pings += usize::from(queue.next_ping_left().is_some());
        assert_eq!(pings, usize::from(taken >= 40), "{taken}");
    }
    assert!(writer.is_idle());
    queue.return_writer(writer);
    assert!(!queue.needs_writer());
}

/// Of the batch, TLS has taken a part, and the socket a part of that.
#[test]
fn with_tls_pongs_and_a_direct_message_in_the_same_records_have_no_position() {
    let mut queue = queue();
    queue.queue_pong(b"p".to_vec());
    queue_message(&mut queue, b"abc");
    let end = queue.end();
    let mut writer = take_writer(&mut queue);
    queue.fetch_with_header(&mut writer, MessageKind::Binary, 100, 0).unwrap();
    assert_eq!(writer.batch.len(), 3 + 5 + 2);
    // The pong and a byte of the message; the rest of the message but one byte; that byte and the header.
    for (written, records, taken, unwritten) in [
        (4, &[(34, 4)][..], 33, 5),
        (4, &[(34, 4)], 34, 4),
        (7, &[(34, 4), (33, 3)], 34, 4),
        (7, &[(34, 4), (33, 3)], 67, 1),
        (10, &[(34, 4), (33, 3), (33, 3)], 99, 1),
        (10, &[(34, 4), (33, 3), (33, 3)], 100, 0),
    ] {
        writer.written = written;
        writer.wire = WriteState::of_records(records);
        writer.wire.set_taken(taken);
        queue.note_written(&writer);
        assert_eq!((writer.unwritten_frames(), queue.is_written(end)), (unwritten, unwritten == 0), "{taken}");
    }
    // The payload, none of which is out.
    writer.restart();
    writer.batch.extend_from_slice(&[7; 100]);
    write_all(&mut writer);
    writer.wire = WriteState::of_records(&[(130, 100)]);
    queue.note_written(&writer);
    assert!(queue.is_written(end), "it stays written");
}

#[test]
fn with_tls_a_close_frame_is_written_and_a_failure_ends_sending_by_complete_records() {
    for (taken, is_out) in [(60, false), (61, true)] {
        let mut queue = queue();
        queue_message(&mut queue, b"abc");
        let first = queue.end();
        queue.queue_close(b"");
        let mut writer = take_writer(&mut queue);
        queue.fetch(&mut writer, 0).unwrap();
        write_all(&mut writer);
        writer.wire = WriteState::of_records(&[(30, 5), (31, 2)]);
        writer.wire.set_taken(taken);
        queue.note_written(&writer);
        assert_eq!((queue.is_close_written(), queue.is_writing_close()), (is_out, !is_out));
        queue.break_writer(&writer, &error());
        assert!(queue.is_written(first));
        assert_eq!((queue.is_close_written(), queue.failure().is_none()), (is_out, is_out));
    }
}

/// A call that never waits has left a rest of the batch, in TLS or in front of it. A direct message goes behind it.
#[test]
fn a_direct_message_goes_behind_the_rest_of_a_batch() {
    let mut queue = queue();
    queue_message(&mut queue, b"abc");
    let first = queue.end();
    let mut writer = queue.take_writer(WriterSlot::Flushing).unwrap();
    queue.fetch(&mut writer, 1000).unwrap();
    writer.written = 4;
    writer.wire = WriteState::of_records(&[(34, 4)]);
    queue.return_writer(writer);
    queue_message(&mut queue, b"d");
    queue.queue_pong(b"p".to_vec());
    let second = queue.end();
    let buffered = queue.buffered(1000);
    let mut writer = take_writer(&mut queue);
    queue.fetch_with_header(&mut writer, MessageKind::Text, 100, 1034).unwrap();
    let batch = [&[0x82, 3][..], b"abc", &[0x82, 1], b"d", &[0x81, 100]].concat();
    assert_eq!((&writer.batch, writer.written), (&batch, 4));
    assert_eq!((queue.buffered(1000), queue.buffered(1003), buffered), (8, 5, 8));
    assert_eq!(queue.accepted(), Traffic { messages: 1, payload_bytes: 100, wire_bytes: 8 + 102 });
    for (written, records, taken, unwritten) in
        [(4, &[(34, 4)][..], 33, 8), (4, &[(34, 4)], 34, 4), (10, &[(36, 6)], 0, 4), (10, &[(36, 6)], 36, 0)]
    {
        writer.written = written;
        writer.wire = WriteState::of_records(records);
        writer.wire.set_taken(taken);
        queue.note_written(&writer);
        assert_eq!(writer.unwritten_frames(), unwritten, "{taken}");
        assert_eq!([first, second].map(|end| queue.is_written(end)), [unwritten <= 3, unwritten == 0], "{taken}");
    }
    queue.return_writer(writer);
    assert_eq!(write_queued(&mut queue), [0x8a, 1, b'p'], "pongs wait for the next batch");
}

/// Pongs go first and have no position; a direct message goes behind and has none either.
#[test]
fn pongs_in_front_and_a_direct_message_behind_are_no_frames_of_the_queue() {
    let mut queue = queue();
    queue_message(&mut queue, b"abc");
    queue.queue_pong(b"p".to_vec());
    queue.queue_pong(b"".to_vec());
    let end = queue.end();
    let mut writer = take_writer(&mut queue);
    assert_eq!(queue.fetch_with_header(&mut writer, MessageKind::Text, 100, 0).unwrap(), None);
    assert_eq!(writer.batch, [&[0x8a, 1, b'p', 0x8a, 0][..], &[0x82, 3], b"abc", &[0x81, 100]].concat());
    for (written, is_written) in [(0, false), (5, false), (9, false), (10, true), (11, true), (12, true)] {
        writer.written = written;
        queue.note_written(&writer);
        assert_eq!(queue.is_written(end), is_written, "{written}");
    }
    // The payload.
    writer.restart();
    writer.batch.extend_from_slice(&[b'x'; 100]);
    queue.note_written(&writer);
    assert!(queue.is_written(end), "it stays written");
    queue_message(&mut queue, b"next");
    assert!(!queue.is_written(queue.end()));
    write_all(&mut writer);
    queue.return_writer(writer);
    assert_eq!(write_queued(&mut queue), [&[0x82, 4][..], b"next"].concat());
    assert!(queue.is_written(queue.end()));
}

#[test]
fn a_client_masks_each_frame_anew() {
    let mut queue = SendQueue::new(Role::Client, WriteState::default(), None, MAX_QUEUED);
    queue_message(&mut queue, b"");
    queue_message(&mut queue, b"");
    let mut writer = take_writer(&mut queue);
    let mask = queue.fetch_with_header(&mut writer, MessageKind::Binary, 1, 0).unwrap().unwrap();
    let masks = [&writer.batch[2..6], &writer.batch[8..12], &writer.batch[14..18]];
    assert!(masks[0] != masks[1] && masks[1] != masks[2] && masks[2] == mask.to_bytes(), "{masks:?}");
    let masks: BTreeSet<[u8; 4]> = (0..1000).map(|_| queue.next_mask().unwrap().unwrap().to_bytes()).collect();
    assert!(masks.len() > 990, "{}", masks.len());
}

#[test]
fn the_oldest_pongs_give_way() {
    let mut queue = queue();
    (0..=MAX_PONGS as u8).for_each(|number| queue.queue_pong(vec![number]));
    let batch = write_queued(&mut queue);
    assert_eq!((batch.len(), &batch[..3]), (3 * MAX_PONGS, &[0x8a, 1, 1][..]));
    queue.queue_close(b"");
    queue.queue_pong(vec![1]);
    assert_eq!(write_queued(&mut queue), [0x88, 0], "no pong behind the close frame");
}

#[test]
fn pings_leave_when_their_last_byte_has() {
    let mut queue = queue();
    assert_eq!(queue.last_ping(), None);
    assert!(queue.queue_ping(b"one").unwrap() && queue.queue_ping(b"two").unwrap());
    assert_eq!(queue.last_ping(), Some(&b"two"[..]));
    let mut writer = take_writer(&mut queue);
    queue.fetch(&mut writer, 0).unwrap();
    writer.written = 4;
    queue.note_written(&writer);
    assert_eq!(queue.next_ping_left(), None);
    writer.written = 9;
    queue.note_written(&writer);
    assert_eq!((queue.next_ping_left(), queue.next_ping_left()), (Some(b"one".to_vec()), None));
    write_all(&mut writer);
    queue.return_writer(writer);
    assert_eq!((queue.next_ping_left(), queue.next_ping_left()), (Some(b"two".to_vec()), None));
    queue.queue_close(b"");
    assert!(!queue.queue_ping(b"three").unwrap());
    assert_eq!(queue.last_ping(), None);
}

#[test]
fn what_is_accepted_is_counted_with_pongs_and_direct_messages() {
    let mut queue = queue();
    let traffic = |messages, payload_bytes, wire_bytes| Traffic { messages, payload_bytes, wire_bytes };
    queue_message(&mut queue, b"abc");
    queue.note_accepted(1, 3);
    assert_eq!(queue.accepted(), traffic(1, 3, 5));
    queue.queue_pong(b"p".to_vec());
    queue_message(&mut queue, b"de");
    queue.note_accepted(1, 2);
    let mut writer = take_writer(&mut queue);
    queue.fetch_with_header(&mut writer, MessageKind::Text, 100, 0).unwrap();
    assert_eq!(queue.accepted(), traffic(3, 105, 9 + 3 + 102));
    write_all(&mut writer);
    queue.return_writer(writer);
    queue_message(&mut queue, b"f");
    // A part of a message counts its bytes.
    queue.note_accepted(0, 1);
    assert_eq!(queue.accepted(), traffic(3, 106, 114 + 3));
}

// Phases.

#[test]
fn inside_a_message_in_parts_only_fragments_control_frames_and_a_close_go() {
    let mut queue = queue();
    queue.begin_fragmented(this_thread());
    assert!(matches!(queue.phase(), SendPhase::Fragmented { by } if *by == this_thread()));
    assert!(queue.is_open() && !queue.is_between_messages());
    for need in [SMALL, Need::Writer, Need::Compressor, Need::Start, Need::CompressedStart] {
        assert!(!queue.is_ready(need, None, 0), "{need:?}");
    }
    assert!(queue.is_ready(Need::Frame(5), None, 0));
    queue.queue_fragment(Fragment { kind: MessageKind::Text, first: true, fin: Fin::More }, b"a").unwrap();
    assert!(queue.queue_ping(b"").unwrap());
    queue.queue_fragment(Fragment { kind: MessageKind::Text, first: false, fin: Fin::Last }, b"b").unwrap();
    queue.end_fragmented(this_thread());
    assert!(queue.is_between_messages());
    assert_eq!(write_queued(&mut queue), [0x01, 1, b'a', 0x89, 0, 0x80, 1, b'b']);
    queue.begin_fragmented(this_thread());
    assert!(matches!(queue.queue_close(b""), CloseQueued::Now));
    queue.end_fragmented(this_thread());
    assert!(!queue.is_open() && queue.is_closing(), "the end of the message ends no close");
}

#[test]
fn a_close_frame_is_queued_once_and_written_when_the_system_has_all_of_it() {
    let mut queue = queue();
    queue_message(&mut queue, b"before");
    assert!(matches!(queue.queue_close(&[3, 232]), CloseQueued::Now));
    assert!(matches!(queue.queue_close(&[3, 233]), CloseQueued::Before));
    assert!(queue.is_closing() && !queue.is_open() && !queue.is_close_written() && !queue.is_writing_close());
    for need in [SMALL, Need::Writer, Need::Compressor, Need::Start] {
        assert!(!queue.is_ready(need, None, 0), "{need:?}");
    }
    let mut writer = take_writer(&mut queue);
    assert!(!queue.is_writing_close(), "it is not fetched");
    queue.fetch(&mut writer, 0).unwrap();
    assert!(queue.is_writing_close() && writer.batch.ends_with(&[0x88, 2, 3, 232]));
    writer.written = writer.batch.len() - 1;
    queue.note_written(&writer);
    assert!(!queue.is_close_written() && queue.is_writing_close());
    write_all(&mut writer);
    queue.note_written(&writer);
    assert!(queue.is_close_written() && !queue.is_writing_close());
    queue.return_writer(writer);
    assert!(queue.is_close_written() && !queue.needs_writer());
}

#[test]
fn encoded_frames_are_appended() {
    let mut queue = queue();
    queue.queue_frame(vec![1, 2]);
    queue.queue_frame(vec![3]);
    assert_eq!((queue.end(), write_queued(&mut queue)), (3, vec![1, 2, 3]));
}

#[test]
fn a_broken_writer_ends_sending_and_keeps_what_is_written() {
    let mut queue = queue();
    queue_message(&mut queue, b"abc");
    let first = queue.end();
    queue_message(&mut queue, b"d");
    let second = queue.end();
    queue.queue_ping(b"").unwrap();
    let mut writer = take_writer(&mut queue);
    queue.fetch(&mut writer, 0).unwrap();
    queue_message(&mut queue, b"behind");
    queue.queue_pong(b"p".to_vec());
    writer.written = 6;
    queue.break_writer(&writer, &error());
    assert_eq!([first, second, queue.end()].map(|end| queue.is_written(end)), [true, false, false]);
    assert_eq!(queue.failure().unwrap().kind(), ErrorKind::Io);
    assert!(!queue.is_open() && queue.is_empty() && !queue.needs_writer() && queue.buffered(0) == 0);
    assert!(queue.take_writer(WriterSlot::Writing).is_none() && queue.next_ping_left().is_none());
    for need in [SMALL, Need::Frame(1), Need::Writer, Need::Compressor, Need::Start] {
        assert!(!queue.is_ready(need, None, 0), "{need:?}");
    }
    assert!(matches!(queue.queue_close(b""), CloseQueued::Failed(error) if error.kind() == ErrorKind::Io));
    // The first failure counts.
    queue.break_writer(&writer, &Error::new(ErrorKind::Timeout, "later"));
    assert_eq!(queue.failure().unwrap().kind(), ErrorKind::Io);
}

#[test]
fn a_write_that_fails_before_the_close_frame_is_out_is_a_failure_and_one_behind_it_is_none() {
    for is_out in [false, true] {
        let mut queue = queue();
        queue.queue_close(b"");
        let mut writer = take_writer(&mut queue);
        queue.fetch(&mut writer, 0).unwrap();
        writer.written = if is_out { 2 } else { 1 };
        queue.break_writer(&writer, &error());
        assert_eq!((queue.failure().is_none(), queue.is_close_written()), (is_out, is_out));
        assert!(!queue.is_writing_close());
    }
}
