//! What a configuration was made of: the text of its file, and the answers to its questions about the machine
//! ([`asker`]), which are mainly the files that it includes. With a transcript the same configuration can be
//! read again, whatever the files say by then.
//!
//! As bytes, each of these is a u64 length and so many bytes: the text of the file, then each question and
//! its answer, in the order in which they were asked.

use std::cell::{Cell, RefCell};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::asker::{self, Question};

/// The questions of a configuration, and their answers.
#[derive(Debug, Default)]
pub struct Transcript {
    bytes: RefCell<Vec<u8>>,
    /// Whether it is read from.
    pub is_known: bool,
    /// How far that is.
    at: Cell<usize>,
}

impl Transcript {
    /// The answer to a question about the machine.
    pub fn answer(&self, question: Question, path: &Path) -> Vec<u8> {
        let asked = [&[question as u8], path.as_os_str().as_bytes()].concat();
        self.answer_to(&asked, &mut || asker::answer(question, path))
    }

    /// The answer to a question, which is found out and noted; or the known one. One that is not known is
    /// found out, too.
    fn answer_to(&self, question: &[u8], find_out: &mut dyn FnMut() -> Vec<u8>) -> Vec<u8> {
        let mut bytes = self.bytes.borrow_mut();
        if !self.is_known {
            let answer = find_out();
            add(&mut bytes, question);
            add(&mut bytes, &answer);
            return answer;
        }
        // The next one first: a command that runs twice may say two things.
        for start in [self.at.get(), 0] {
            let mut rest = bytes.get(start..).unwrap_or_default();
            while let (Some(known), Some(answer)) = (take(&mut rest), take(&mut rest)) {
                if known == question {
                    self.at.set(bytes.len() - rest.len());
                    return answer.to_vec();
                }
            }
        }
        find_out()
    }

    /// The transcript as bytes, with the text of the file.
    pub fn encode(&self, text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        add(&mut bytes, text);
        bytes.extend_from_slice(&self.bytes.borrow());
        bytes
    }

    /// The text of the file, and the transcript that these bytes are.
    pub fn decode(mut bytes: &[u8]) -> (Vec<u8>, Self) {
        let text = take(&mut bytes).unwrap_or_default().to_vec();
        (text, Self { bytes: bytes.to_vec().into(), is_known: true, at: Cell::default() })
    }
}

/// Adds a part to the bytes.
fn add(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
    bytes.extend_from_slice(part);
}

/// The next part of the bytes.
fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (part, rest) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
    *bytes = rest;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_answered_once_is_answered_again_in_that_order() {
        let transcript = Transcript::default();
        let mut count = 0;
        let mut ask = |transcript: &Transcript, question: &str| {
            let answer = transcript.answer_to(question.as_bytes(), &mut || {
                count += 1;
                format!("{question} {count}").into()
            });
            String::from_utf8(answer).unwrap()
        };
        for (question, answer) in [("a", "a 1"), ("b", "b 2"), ("a", "a 3")] {
            assert_eq!(ask(&transcript, question), answer);
        }
        let bytes = transcript.encode(b"text");
        let (text, known) = Transcript::decode(&bytes);
        assert_eq!(text, b"text");
        for (question, answer) in [("a", "a 1"), ("b", "b 2"), ("c", "c 4"), ("a", "a 3"), ("b", "b 2")] {
            assert_eq!(ask(&known, question), answer);
        }
        // Bytes that are cut off, or changed, have fewer answers, or others.
        for end in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[end] ^= 0x81;
            for bytes in [&bytes[..end], &changed] {
                let (_, known) = Transcript::decode(bytes);
                known.answer_to(b"a", &mut Vec::new);
            }
        }
    }
}
