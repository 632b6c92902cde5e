//! What a vassal's configuration says, as a number: whether a changed file says something else
//! (`reload-on = content`).
//!
//! The number is made of the bytes of the file and of all files that it reads. A number that cannot be known,
//! as where a command prints a part of it, is none, and then each change of the file counts. So it is where
//! procfs is read: it says other things to PID 1, and leads into other mount namespaces.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstatfs, lstat, openat2};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, getpid, set_dumpable_behavior};

use crate::accounts::Accounts;
use crate::config::{self, Host, Input, Status, World, placed};
use crate::emperor::deputy::{Deputy, pull, tell};
use crate::error::{Cause, Context, Result};
use crate::identity::Identity;
use crate::protocol::{FileOwner, Received};
use crate::sys::clone;
use crate::world::{Machine, environment_option, variable};

/// The key that asks for it.
const KEY: &str = "reload-on";
/// How long the files may take that a vassal's file reads. They may be on other filesystems than that.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where the text is read.
pub struct Reader<'a> {
    /// The path of the vassal's file.
    pub path: &'a Path,
    /// Its content.
    pub text: &'a [u8],
    /// What the emperor has all vassals read before it, and behind it.
    pub around: [&'a [(String, OsString)]; 2],
    /// The environment of vassals.
    pub environment: &'a [(OsString, OsString)],
    /// Who reads it, in tyrant mode.
    pub owner: Option<FileOwner>,
}

impl Reader<'_> {
    /// The number of the text; `None` if each change of the file counts. Another process reads the files, and
    /// is given up if they hang: `Err` with that process if it does not even end.
    pub fn number(&self) -> Result<Option<u64>, Pid> {
        if !self.may_ask() {
            return Ok(None);
        }
        let parent = getpid();
        let life = |link| {
            let number = self.become_owner(parent).ok().and_then(|()| self.read());
            let packet = number.map(u64::to_le_bytes);
            tell(&link, packet.as_ref().map_or(b"-", |packet| &packet[..]), None);
        };
        let Ok(deputy) = Deputy::start(c"emperor-text", life) else { return Ok(None) };
        let (heard, pid) = (deputy.hear(PATIENCE), deputy.pid());
        match (deputy.end(), heard) {
            (false, None) => Err(pid),
            (_, Some(Ok(Received::Packet(packet, _)))) => Ok(pull(&mut &packet[..])),
            _ => Ok(None),
        }
    }

    /// In the process that reads a user's files: has the rights from now on that PID 1 has when it does so.
    fn become_owner(&self, parent: Pid) -> Result<()> {
        let Some(owner) = self.owner else { return Ok(()) };
        Identity::of_owner(owner, Accounts::read)?.assume(None)?;
        // Its memory is a copy of the emperor's.
        let kept = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        // The change of identity has cleared the signal.
        kept.and_then(|()| clone::die_with(parent)).context("hide", "the emperor's memory")
    }

    /// Whether the key may be there: in the file, or in what all vassals read.
    fn may_ask(&self) -> bool {
        let has_key = |text: &[u8]| text.windows(KEY.len()).any(|part| part == KEY.as_bytes());
        let may = |(key, value): &(String, OsString)| placed(key).0 != "set" || has_key(value.as_bytes());
        has_key(self.text) || self.around.into_iter().flatten().any(may) || self.variables().next().is_some()
    }

    /// The options in the environment.
    fn variables(&self) -> impl Iterator<Item = (String, &OsString)> {
        self.environment.iter().filter_map(|(name, value)| Some((environment_option(name)?, value)))
    }

    fn read(&self) -> Option<u64> {
        let world = Reading {
            directory: self.path.parent()?,
            environment: self.environment,
            is_owned: self.owner.is_some(),
            number: Cell::new(FNV_START),
            is_known: Cell::new(true),
        };
        world.note(self.path, self.text);
        let option = |(key, value): (String, &OsString)| Input::Option { key, value: Some(value.clone()) };
        let [before, behind] =
            self.around.map(|options| options.iter().map(|(key, value)| option((key.clone(), value))));
        let (path, text) = (self.path.to_owned(), self.text.to_vec());
        let own = [Input::Text { path, section: None, text }];
        let inputs: Vec<_> = self.variables().map(option).chain(before).chain(own).chain(behind).collect();
        let settings = config::expanded(&inputs, false, &world).ok()?;
        let last = settings.iter().rfind(|setting| setting.key == KEY.as_bytes())?;
        (last.value.as_deref() == Some(b"content") && world.is_known.get()).then(|| world.number.get())
    }
}

/// The beginning and the factor of FNV-1a.
const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_FACTOR: u64 = 0x0100_0000_01b3;

/// The machine as the vassal's PID 1 sees it at its start. All answers that are read from files are noted.
struct Reading<'a> {
    directory: &'a Path,
    environment: &'a [(OsString, OsString)],
    is_owned: bool,
    number: Cell<u64>,
    /// Whether all that was asked is part of the number.
    is_known: Cell<bool>,
}

impl Reading<'_> {
    fn note(&self, path: &Path, answer: &[u8]) {
        let path = path.as_os_str().as_bytes();
        let lengths = [path.len(), answer.len()].map(usize::to_le_bytes).concat();
        let add = |number: u64, byte: &u8| (number ^ u64::from(*byte)).wrapping_mul(FNV_FACTOR);
        self.number.set(lengths.iter().chain(path).chain(answer).fold(self.number.get(), add));
    }

    fn unknown(&self) {
        self.is_known.set(false);
    }

    /// Where a path leads from the file; `None`, and nothing is known, if that is in procfs, or beyond.
    fn place(&self, path: &Path) -> Option<PathBuf> {
        let path = self.directory.join(path);
        if is_beside_procfs(&path) {
            return Some(path);
        }
        self.unknown();
        None
    }
}

/// Whether a path leads neither to procfs nor through it. What does not exist is where its directory is.
fn is_beside_procfs(path: &Path) -> bool {
    for place in path.ancestors() {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match openat2(CWD, place, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
            // Other filesystems may refuse to say it.
            Ok(there) => return !fstatfs(there).is_ok_and(|about| about.f_type == PROC_SUPER_MAGIC),
            // A link of procfs's, or one that leads nowhere now.
            Err(_)
                if lstat(place).is_ok_and(|status| FileType::from_raw_mode(status.st_mode).is_symlink()) =>
            {
                return false;
            }
            Err(_) => {}
        }
    }
    false
}

impl World for Reading<'_> {
    fn read(&self, path: &Path) -> Result<Vec<u8>, Cause> {
        let read = Machine.read(&self.place(path).ok_or(Errno::XDEV)?);
        match &read {
            Ok(bytes) => self.note(path, bytes),
            Err(_) => self.unknown(),
        }
        read
    }

    fn resource(&self, _: &OsStr) -> Result<Option<Vec<u8>>, Cause> {
        self.unknown();
        Ok(None)
    }

    fn trusts_cwd(&self) -> bool {
        !self.is_owned
    }

    fn names(&self, directory: &Path) -> Vec<OsString> {
        let Some(place) = self.place(directory) else { return Vec::new() };
        let mut names = Machine.names(&place);
        names.sort_unstable();
        names.iter().for_each(|name| self.note(directory, name.as_bytes()));
        names
    }

    fn status(&self, path: &Path) -> Option<Status> {
        let status = Machine.status(&self.place(path)?);
        let kinds = status.map(|it| [it.is_file, it.is_directory, it.symlink].map(u8::from));
        self.note(path, kinds.as_ref().map_or(&[], |kinds| &kinds[..]));
        status
    }

    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        Machine.real_path(&self.place(path)?)
    }

    fn cwd(&self) -> PathBuf {
        self.directory.to_owned()
    }

    /// A user's file sees only a part of it, which is known to PID 1.
    fn env(&self, name: &OsStr) -> Option<OsString> {
        if self.is_owned {
            self.unknown();
        }
        variable(self.environment, name)
    }

    fn host(&self) -> &dyn Host {
        &Machine
    }

    fn user_name(&self) -> OsString {
        Machine.user_name()
    }

    fn group_name(&self) -> OsString {
        Machine.group_name()
    }
}
