//! Magic variables (`%n`, `%p`, …): replaced in a file's text before anything else looks at it.
//!
//! As in uWSGI the percent sign and the byte behind it are always replaced: `%%` by `%`, and a pair without a
//! meaning by nothing. Only the one at the end of `cpu-max = 50%` stays. A lower-case letter refers to the
//! file at hand, an upper-case one to the file that was named first.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::config::bytes::rsplit_once;
use crate::config::setting::BYTES_MAX;
use crate::config::world::World;

/// Stands for the percent sign of a magic variable that is left to uWSGI. No text has this byte.
pub(super) const FOR_UWSGI: u8 = 0;

/// How many stray percent signs are warned of.
const STRAYS_MAX: usize = 20;

/// A text with its magic variables replaced, which can tell where each byte was written.
pub(super) struct Substituted {
    original: Vec<u8>,
    bytes: Vec<u8>,
    /// `(offset in bytes, offset in original)` at the end of every replacement.
    anchors: Vec<(usize, usize)>,
    /// Offsets in the original of percent signs without a meaning.
    strays: Vec<usize>,
}

impl Substituted {
    /// Replaces every `%c` by its `value`. The result is cut off when it exceeds [`BYTES_MAX`].
    pub fn new(original: &[u8], value: impl Fn(u8) -> Option<Vec<u8>>) -> Self {
        let mut bytes = Vec::with_capacity(original.len());
        let (mut anchors, mut strays) = (Vec::new(), Vec::new());
        // Each value is asked for once, because some are read from files.
        let mut known: Vec<(u8, Option<Vec<u8>>)> = Vec::new();
        let mut rest = original.iter().copied().enumerate();
        while let Some((offset, byte)) = rest.next() {
            if bytes.len() > BYTES_MAX {
                break;
            }
            if byte != b'%' || is_share(original, offset) {
                bytes.push(byte);
                continue;
            }
            match rest.next() {
                // The start of a placeholder, which is for a later pass.
                Some((_, b'(')) => bytes.extend(b"%("),
                // As in uWSGI, a percent sign at the end of the text is dropped.
                None => strays.push(offset),
                Some((_, name)) => {
                    let at = known.iter().position(|(other, _)| *other == name).unwrap_or_else(|| {
                        known.push((name, value(name)));
                        known.len() - 1
                    });
                    match known.get(at).and_then(|(_, value)| value.as_ref()) {
                        Some(value) => bytes.extend(value),
                        None if strays.len() < STRAYS_MAX => strays.push(offset),
                        // A percent sign that joins two lines is reported even after many strays that do not.
                        None if name == b'\n' && strays.len() < 2 * STRAYS_MAX => strays.push(offset),
                        None => {}
                    }
                    anchors.push((bytes.len(), offset + 2));
                }
            }
        }
        Self { original: original.to_vec(), bytes, anchors, strays }
    }

    /// The text with everything replaced.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The text as it was written.
    pub fn original(&self) -> &[u8] {
        &self.original
    }

    /// The offset in the original that a byte of the result comes from. Every byte of a replacement comes
    /// from its start.
    pub fn original_offset(&self, offset: usize) -> usize {
        let after = self.anchors.partition_point(|(end, _)| *end <= offset);
        let (base, original) =
            after.checked_sub(1).and_then(|at| self.anchors.get(at)).copied().unwrap_or((0, 0));
        let next = self.anchors.get(after).map_or(self.original.len(), |(_, original)| original - 2);
        (original + (offset - base)).min(next)
    }

    /// Line and column of the first percent signs that have no meaning, and for each whether uWSGI drops the
    /// line break after it. In a comment only those with a line break are reported.
    pub fn stray_places(&self) -> Vec<((u32, u32), bool)> {
        let place = |&offset: &usize| {
            let before = self.original.get(..offset).unwrap_or_default();
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
            let after = self.original.get(offset + 1..).unwrap_or_default();
            let joins = after.starts_with(b"\n") && !after.trim_ascii().is_empty();
            let start = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
            let is_comment = matches!(start.trim_ascii_start().first(), Some(b';' | b'#'));
            let (line, column) = (u32::try_from(line).ok()?, u32::try_from(column).ok()?);
            (joins || !is_comment).then_some(((line, column), joins))
        };
        self.strays.iter().filter_map(place).collect()
    }
}

/// Whether this percent sign ends a line with `cpu-max`, as in `cpu-max = 50%`. uWSGI, which does not know
/// that key, would drop it together with the line break.
fn is_share(text: &[u8], offset: usize) -> bool {
    let (before, after) =
        (text.get(..offset).unwrap_or_default(), text.get(offset + 1..).unwrap_or_default());
    let mut rest = after.iter().take_while(|byte| **byte != b'\n');
    rest.all(|byte| byte.is_ascii_whitespace())
        && before
            .rsplit(|byte| *byte == b'\n')
            .next()
            .is_some_and(|line| line.windows(7).any(|part| part == b"cpu-max"))
}

/// The values of magic variables that come from a file's name.
#[derive(Clone, Default)]
pub(super) struct FileMagic {
    given: Vec<u8>,
    path: Vec<u8>,
    section: Vec<u8>,
    inode: u64,
}

impl FileMagic {
    /// For a file by the name that was given, and a section of it.
    pub fn new(given: &Path, section: Option<&OsStr>, world: &dyn World) -> Self {
        let status = world.status(given);
        // A symbolic link keeps its own name, because many vassals may be links to one file.
        let path = match status {
            Some(status) if !status.symlink => world.real_path(given).unwrap_or_else(|| given.to_path_buf()),
            _ => world.cwd().join(given),
        };
        Self {
            given: given.as_os_str().as_bytes().to_vec(),
            path: path.into_os_string().into_vec(),
            section: section.map_or_else(Vec::new, |section| section.as_bytes().to_vec()),
            inode: status.map_or(0, |status| status.inode),
        }
    }

    /// The same for `:SECTION`, where no name was given.
    pub fn without_name(self) -> Self {
        Self { given: Vec::new(), ..self }
    }

    fn value(&self, name: u8) -> Option<Vec<u8>> {
        let path = &self.path[..];
        let (directory, file) =
            path.split_at(path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1));
        let directories = || directory.split(|&byte| byte == b'/').filter(|part| !part.is_empty());
        let value = match name {
            b'o' => &self.given,
            b'p' => path,
            b's' => file,
            b'n' => rsplit_once(file, b'.').map_or(file, |(stem, _)| stem),
            b'd' => directory,
            b'e' => rsplit_once(file, b'.').map_or(&[][..], |(_, suffix)| suffix),
            b'c' => directories().next_back().unwrap_or_default(),
            b'x' => &self.section,
            b'0'..=b'9' => directories().nth((name - b'0').into()).unwrap_or_default(),
            b'i' => return Some(self.inode.to_string().into()),
            b'j' => return Some(format!("{:08X}", hash(path).swap_bytes()).into()),
            _ => return None,
        };
        Some(value.to_vec())
    }
}

/// uWSGI's `djb33x`. `%j` shows that of the path, byte by byte in little-endian order.
fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(5381, |hash: u32, &byte| hash.wrapping_mul(33) ^ u32::from(byte))
}

/// The value of `%name` in `file`; `first` is the file that was named first.
pub(super) fn value(name: u8, file: &FileMagic, first: &FileMagic, world: &dyn World) -> Option<Vec<u8>> {
    let text = |text: &OsStr| Some(text.as_bytes().to_vec());
    let number = |number: u64| Some(number.to_string().into_bytes());
    match name {
        b'%' => Some(b"%".to_vec()),
        // Its version and its program, which only uWSGI knows.
        b'V' | b'b' => Some(vec![FOR_UWSGI, name]),
        b'[' => Some(b"\x1b".to_vec()),
        b'v' => text(world.cwd().as_os_str()),
        b'h' => text(&world.host().hostname()),
        b'u' => number(world.host().uid().into()),
        b'U' => text(&world.user_name()),
        b'g' => number(world.host().gid().into()),
        b'G' => text(&world.group_name()),
        b't' => number(world.host().now().as_secs()),
        b'T' => number(u64::try_from(world.host().now().as_micros()).unwrap_or(u64::MAX)),
        b'k' => number(world.host().cpus() as u64),
        b'O' | b'P' | b'S' | b'N' | b'D' | b'E' | b'C' | b'X' | b'I' | b'J' => {
            first.value(name.to_ascii_lowercase())
        }
        _ => file.value(name),
    }
}
