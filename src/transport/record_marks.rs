//! Which plain bytes are in records that are not written completely.

/// The ends of the records in a buffer of encrypted bytes, and how many plain bytes each record carries.
#[derive(Debug, Default)]
pub(crate) struct RecordMarks(Vec<Mark>);

#[derive(Debug)]
struct Mark {
    /// How many bytes of the buffer there are up to the end of the record.
    cipher_end: usize,
    plain: usize,
}

impl RecordMarks {
    /// `plain` bytes more are in records that end at `cipher_end`.
    pub fn push(&mut self, cipher_end: usize, plain: usize) {
        self.0.push(Mark { cipher_end, plain });
    }

    /// The plain bytes of all records of which not every byte is among the first `written`.
    pub fn unsent_plain(&self, written: usize) -> usize {
        self.0.iter().rev().take_while(|mark| mark.cipher_end > written).map(|mark| mark.plain).sum()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_as_sent_with_its_last_byte() {
        let mut marks = RecordMarks::default();
        assert_eq!(marks.unsent_plain(0), 0);
        for (cipher_end, plain) in [(110, 100), (220, 100), (251, 20)] {
            marks.push(cipher_end, plain);
        }
        let cases = [(0, 220), (109, 220), (110, 120), (219, 120), (220, 20), (250, 20), (251, 0), (300, 0)];
        for (written, unsent) in cases {
            assert_eq!(marks.unsent_plain(written), unsent, "after {written} bytes");
        }
        marks.clear();
        assert_eq!(marks.unsent_plain(0), 0);
    }
}
