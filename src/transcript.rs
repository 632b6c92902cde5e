//! What a configuration was made of: the text of its file, and the answers to its questions about the machine
//! ([`asker`]), which are mainly the files that it includes. With a transcript the same configuration can be
//! read again, whatever the files say by then.
//!
//! As bytes, each of these is a u64 length and so many bytes: the text of the file, then each question and
//! its answer, in the order in which they were asked. These bytes are in the saved state of the emperor
//! (`emperor::core::saved`), which the program of after an upgrade reads: another form of them, or of the
//! questions and answers, takes another `VERSION` there.

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
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;
    use crate::asker::Asker;
    use crate::config::World;
    use crate::error::Cause;
    use crate::world::Machine;

    #[test]
    fn the_program_of_after_an_upgrade_reads_what_the_one_before_has_noted() {
        let place = tempfile::tempdir().unwrap();
        let [file, link, none] = ["file", "link", "none"].map(|name| place.path().join(name));
        let directory = place.path().join("directory");
        fs::write(&file, "text").unwrap();
        symlink(&file, &link).unwrap();
        fs::create_dir(&directory).unwrap();
        let (itself, there) = (fs::symlink_metadata(&link).unwrap(), fs::metadata(&link).unwrap());
        let numbers = [there.uid(), there.mode() & 0o7777].map(u32::to_le_bytes);
        let status = [&[1, 0, 1][..], &itself.ino().to_le_bytes(), numbers.as_flattened()].concat();
        let real_path = file.as_os_str().as_bytes().to_vec();
        let names = asker::answer(Question::Names, &directory);
        let [program, wrong] = ["exec://echo out", "what://is"].map(Path::new);
        let only = b"\0\0\0\0\0only files, fd:// and exec:// can be read";
        let mut expected = b"\x03\0\0\0\0\0\0\0all".to_vec();
        let noted = Transcript::default();
        for (number, question, path, answer) in [
            (0, Question::Read, &*file, b"\x01text".to_vec()),
            (0, Question::Read, &none, b"\0\x02\0\0\0".to_vec()),
            (1, Question::ReadProgram, &file, b"\x01text".to_vec()),
            (2, Question::Names, &directory, names),
            (3, Question::Status, &link, status),
            (3, Question::Status, &none, Vec::new()),
            (4, Question::RealPath, &link, real_path),
            (5, Question::Resource, program, b"\x01out\n".to_vec()),
            (5, Question::Resource, wrong, only.to_vec()),
        ] {
            noted.answer(question, path);
            for part in [[&[number], path.as_os_str().as_bytes()].concat(), answer] {
                expected.extend((part.len() as u64).to_le_bytes());
                expected.extend(part);
            }
        }
        let what_to_do =
            "the form has changed: raise VERSION in src/emperor/core/saved.rs, and say here what it is";
        assert_eq!(noted.encode(b"all"), expected, "{what_to_do}");
        let status = Machine.status(&link);
        drop(place);
        let (_, known) = Transcript::decode(&expected);
        let answer = |question, path: &Path| known.answer(question, path);
        let world = Asker::here(&answer, None);
        let text = |found: Result<Vec<u8>, Cause>| String::from_utf8(found.unwrap()).unwrap();
        assert_eq!((text(world.read(&file)), text(world.program(&file))), ("text".into(), "text".into()));
        assert_eq!(world.read(&none).unwrap_err().to_string(), "No such file or directory (ENOENT)");
        assert_eq!((world.status(&link), world.status(&none)), (status, None));
        assert_eq!(world.real_path(&link), Some(file));
        assert!(world.names(&directory).iter().all(|name| name == "." || name == ".."));
        assert_eq!(world.resource(program.as_os_str()).unwrap().unwrap(), b"out\n");
        assert!(world.resource(wrong.as_os_str()).unwrap_err().to_string().starts_with("only files"));
    }

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
