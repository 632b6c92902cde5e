//! What hooks can do: `action:argument` → [`Action`].

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::values::{self, Parsed, pick, quoted};
use crate::config::bytes::split_once;
use crate::config::plan::{Action, WaitKind};
use crate::mount::flags;
use crate::mount::request::{Fuse, MountRequest, Umount};
use crate::names;
use crate::names::{Names, split};

/// An action as it was written, before it has a phase and a place.
pub(crate) struct ParsedAction {
    /// What to do.
    pub action: Action,
    /// Whether a failure is only logged.
    pub tolerant: bool,
    /// The action's name, if the action's text is secret and must not be shown.
    pub private: Option<String>,
}

/// How the arguments of an action are parsed.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Alarm,
    /// A function of libc, with a number or a text.
    Call {
        number: bool,
        tolerant: bool,
    },
    Chmod,
    Chown {
        numbers: bool,
    },
    Exec {
        tolerant: bool,
    },
    Exit,
    Fifo {
        wait: bool,
    },
    Fuse,
    Hostname,
    Mount,
    /// One path. Blanks are part of it.
    Path(OnPath),
    Print,
    Putenv,
    Umask,
    Umount,
    WaitFor(WaitKind),
    Write {
        append: bool,
        line_break: bool,
    },
}

/// An action on one path.
#[derive(Clone, Copy, PartialEq)]
enum OnPath {
    Chdir,
    Chroot,
    Create,
    Mkdir,
    Rmdir,
    Sticky,
    Unlink,
}

impl OnPath {
    fn action(self, path: PathBuf) -> Action {
        match self {
            Self::Chdir => Action::Chdir(path),
            Self::Chroot => Action::Chroot(path),
            Self::Create => Action::Create(path),
            Self::Mkdir => Action::Mkdir(path),
            Self::Rmdir => Action::Rmdir(path),
            Self::Sticky => Action::Sticky(path),
            Self::Unlink => Action::Unlink(path),
        }
    }
}

/// The actions with their arguments, for help. A failure of a tolerant action is only logged: uWSGI ignores
/// its result.
///
/// These are uWSGI's actions that make sense outside its process, and besides them `chroot`, `rmdir` and
/// `umask`.
#[rustfmt::skip]
static ACTIONS: Names<Kind> = names![
    ("alarm NAME TEXT", Kind::Alarm),
    ("append FILE TEXT", Kind::Write { append: true, line_break: false }),
    ("appendn FILE [TEXT]", Kind::Write { append: true, line_break: true }),
    ("call FUNCTION ARG", Kind::Call { number: false, tolerant: true }),
    ("callint FUNCTION NUMBER", Kind::Call { number: true, tolerant: true }),
    ("callintret FUNCTION NUMBER", Kind::Call { number: true, tolerant: false }),
    ("callret FUNCTION ARG", Kind::Call { number: false, tolerant: false }),
    ("cd DIR", Kind::Path(OnPath::Chdir)),
    ("chdir DIR", Kind::Path(OnPath::Chdir)),
    ("chmod FILE MODE", Kind::Chmod),
    ("chown FILE USER [GROUP]", Kind::Chown { numbers: false }),
    ("chown2 FILE UID [GID]", Kind::Chown { numbers: true }),
    ("chroot DIR", Kind::Path(OnPath::Chroot)),
    ("creat FILE", Kind::Path(OnPath::Create)),
    ("create FILE", Kind::Path(OnPath::Create)),
    ("exec COMMAND", Kind::Exec { tolerant: false }),
    ("exit [STATUS]", Kind::Exit),
    ("fuse DIR [-o OPTIONS] COMMAND", Kind::Fuse),
    ("hostname NAME", Kind::Hostname),
    ("log TEXT", Kind::Print),
    ("mkdir DIR", Kind::Path(OnPath::Mkdir)),
    ("mount FS SOURCE DIR [FLAGS] [DATA]", Kind::Mount),
    ("print TEXT", Kind::Print),
    ("putenv NAME=VALUE", Kind::Putenv),
    ("rmdir DIR", Kind::Path(OnPath::Rmdir)),
    ("safeexec COMMAND", Kind::Exec { tolerant: true }),
    ("spinningfifo PIPE TEXT", Kind::Fifo { wait: true }),
    ("sticky FILE", Kind::Path(OnPath::Sticky)),
    ("umask MODE", Kind::Umask),
    ("umount DIR [FLAGS]", Kind::Umount),
    ("unlink FILE", Kind::Path(OnPath::Unlink)),
    ("wait_for_dir PATH", Kind::WaitFor(WaitKind::Directory)),
    ("wait_for_file PATH", Kind::WaitFor(WaitKind::File)),
    ("wait_for_fs PATH", Kind::WaitFor(WaitKind::Any)),
    ("wait_for_socket PATH", Kind::WaitFor(WaitKind::Socket)),
    ("write FILE TEXT", Kind::Write { append: false, line_break: false }),
    ("writefifo PIPE TEXT", Kind::Fifo { wait: false }),
    ("writen FILE [TEXT]", Kind::Write { append: false, line_break: true }),
];

/// The functions of libc that `call` and its kin can call. `umask` takes a number, the others a text.
static FUNCTIONS: Names<Kind> = names![
    ("chdir", Kind::Path(OnPath::Chdir)),
    ("chroot", Kind::Path(OnPath::Chroot)),
    ("mkdir", Kind::Path(OnPath::Mkdir)),
    ("rmdir", Kind::Path(OnPath::Rmdir)),
    ("sethostname", Kind::Hostname),
    ("umask", Kind::Umask),
    ("unlink", Kind::Path(OnPath::Unlink)),
];

/// The names of all actions.
pub fn names() -> Vec<&'static str> {
    ACTIONS.names()
}

/// The names of all functions that `call` and its kin can call.
pub fn functions() -> Vec<&'static str> {
    FUNCTIONS.names()
}

/// An action with its arguments: `mount:FS SOURCE DIR [FLAGS] [DATA]`.
pub(crate) fn form(name: &str) -> Option<String> {
    let mut lines = ACTIONS.lines.lines().map(split);
    lines.find(|(known, _)| *known == name).map(|(name, arguments)| format!("{name}:{arguments}"))
}

/// All actions with their arguments, for help: `exec, safeexec (COMMAND), mount (FS SOURCE DIR [FLAGS]
/// [DATA]), …`.
pub(crate) fn list() -> String {
    let mut listed: Vec<&str> = Vec::new();
    let mut text = String::new();
    for form in ACTIONS.lines.lines().map(|line| split(line).1) {
        if listed.contains(&form) {
            continue;
        }
        listed.push(form);
        for (name, of_form) in ACTIONS.lines.lines().map(split) {
            if of_form == form {
                text.push_str(name);
                text.push_str(", ");
            }
        }
        text.truncate(text.len() - 2);
        text += &format!(" ({form}), ");
    }
    text.truncate(text.len() - 2);
    text
}

/// Parses `action:argument`. A `!` in front makes it private: the argument is not logged.
pub(crate) fn parse(value: &[u8]) -> Parsed<ParsedAction> {
    let Some((name, argument)) = split_once(value, b':') else {
        let message = format!("{} is not action:argument", quoted(value));
        // As in `mount proc none /proc`.
        let text = String::from_utf8_lossy(value);
        let end = text.find(|byte: char| !byte.is_ascii_alphanumeric() && byte != '_');
        return Err(match end.and_then(|end| text.split_at_checked(end)) {
            Some((name, argument)) if ACTIONS.find(name.as_bytes()).is_some() => {
                let argument = argument.trim_start_matches([' ', '\t', '=', ';', '\u{ff1a}']);
                format!("{message}: write '{name}:{argument}'")
            }
            _ => message,
        });
    };
    match name.strip_prefix(b"!") {
        None => named(name, argument),
        Some(name) => {
            let private = Some(String::from_utf8_lossy(name).into_owned());
            named(name, argument).map(|parsed| ParsedAction { private, ..parsed })
        }
    }
}

/// The action of that name.
pub(crate) fn named(name: &[u8], argument: &[u8]) -> Parsed<ParsedAction> {
    let kind = pick("action", &ACTIONS, name)?;
    let tolerant = matches!(kind, Kind::Call { tolerant: true, .. } | Kind::Exec { tolerant: true });
    Ok(ParsedAction { action: action(kind, argument)?, tolerant, private: None })
}

fn action(kind: Kind, argument: &[u8]) -> Parsed<Action> {
    // Words are copied only when all of them have been parsed.
    let mut rest = argument;
    Ok(match kind {
        Kind::Alarm => {
            let name = word(&mut rest, "alarm")?;
            Action::Print(format!(
                "alarm {}: {}",
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(rest)
            ))
        }
        Kind::Call { number, .. } => return call(argument, number),
        Kind::Chmod => {
            let path = word(&mut rest, "path")?;
            let mode = values::octal(rest, 0o7777)?;
            Action::Chmod { path: os(path).into(), mode }
        }
        Kind::Chown { numbers } => {
            let path = word(&mut rest, "path")?;
            let user = word(&mut rest, "user")?;
            if numbers && !(user.iter().chain(rest).all(u8::is_ascii_digit)) {
                return Err("it takes numbers: 'chown' takes names".to_owned());
            }
            let group = if rest.is_empty() { None } else { Some(values::id(rest)?) };
            Action::Chown { user: values::id(user)?, path: os(path).into(), group }
        }
        Kind::Exec { .. } if argument.starts_with(b"exec:") => {
            return Err("write it without 'exec:'".into());
        }
        Kind::Exec { .. } => Action::Exec(values::text(argument)?),
        Kind::Exit if argument.is_empty() => Action::Exit(0),
        Kind::Exit => Action::Exit(number(argument, 255)?.cast_signed()),
        Kind::Fifo { wait } => {
            let (path, text) = path_and_text(rest)?;
            Action::WriteFifo { path: os(path).into(), text: os(text), wait }
        }
        Kind::Fuse => {
            let target = values::absolute(word(&mut rest, "directory")?)?;
            let mut flags = 0;
            if let Some(after) = rest.strip_prefix(b"-o ") {
                rest = after;
                flags = values::bits("option", &flags::FUSE, word(&mut rest, "list of options")?)?;
            }
            let place = rest.windows(2).position(|two| two == b"{}");
            let Some((before, after)) = place.and_then(|place| rest.split_at_checked(place)) else {
                return Err("the command has no {}, which stands for the mountpoint".to_owned());
            };
            let command = [os(before), os(after.get(2..).unwrap_or_default())];
            Action::Fuse(Fuse { target, flags, command })
        }
        Kind::Hostname => Action::Hostname(values::hostname(argument)?),
        Kind::Mount => {
            // As in uWSGI, an empty filesystem type (the argument begins with a blank) is `none`.
            let fs_type = take(&mut rest);
            let source = word(&mut rest, "source")?;
            let target = word(&mut rest, "target")?;
            let flags = take(&mut rest);
            // As mount(8) is called, with a blank in front, or with 'mount:' in 'mount-PHASE'.
            let is_no_type = fs_type.starts_with(b"-") || fs_type.iter().any(|byte| b"/:".contains(byte));
            if is_no_type || matches!(flags, [b'-' | b'/', ..]) {
                return Err("it takes TYPE SOURCE TARGET FLAGS DATA".into());
            }
            if flags.contains(&b'=') {
                return Err(data_as_flags(flags));
            }
            if matches!(fs_type, b"bind" | b"rbind") && !flags.windows(4).any(|part| part == b"bind") {
                return Err("a bind is a flag: write 'mount:none SOURCE TARGET bind'".into());
            }
            let flags = values::bits("mount flag", &flags::MOUNT, flags)?;
            // The kernel would pass over it, as over the 'ro' of 'bind ro'.
            if flags & libc::MS_BIND != 0 && !rest.is_empty() {
                return Err("a bind has no DATA: write 'bind,FLAG'".into());
            }
            Action::Mount(MountRequest {
                fs_type: os(if fs_type.is_empty() { b"none" } else { fs_type }),
                source: os(source),
                target: os(target).into(),
                flags,
                data: os(rest),
            })
        }
        Kind::Path(kind) => kind.action(values::path(argument)?),
        Kind::Print => Action::Print(String::from_utf8_lossy(argument).into_owned()),
        Kind::Putenv => match split_once(argument, b'=') {
            None | Some((b"", _)) => return Err(format!("{} is not NAME=VALUE", quoted(argument))),
            Some((name, value)) => Action::Putenv(os(name), os(value)),
        },
        Kind::Umask => Action::Umask(values::octal(argument, 0o777)?),
        Kind::Umount => {
            let target = word(&mut rest, "path")?;
            let bits = values::bits("umount flag", &flags::UMOUNT, rest)?;
            let recursive = bits & flags::UMOUNT_RECURSIVE != 0;
            let flags = (bits & !flags::UMOUNT_RECURSIVE) as u32;
            Action::Umount(Umount { target: os(target).into(), recursive, flags })
        }
        Kind::WaitFor(kind) => Action::WaitFor { kind, path: values::path(argument)? },
        Kind::Write { append, line_break: false } => {
            let (path, text) = path_and_text(rest)?;
            Action::Write { path: os(path).into(), text: os(text), append }
        }
        Kind::Write { append, line_break: true } => {
            // An empty text is allowed: the action then writes a line break only.
            let path = word(&mut rest, "path")?;
            let text = OsString::from_vec([rest, b"\n"].concat());
            Action::Write { path: os(path).into(), text, append }
        }
    })
}

/// The message about options of a filesystem among the flags. No flag has a `=`.
fn data_as_flags(text: &[u8]) -> String {
    let (data, flags): (Vec<_>, Vec<_>) = values::list(text).partition(|name| name.contains(&b'='));
    let [data, flags] = [data, flags].map(|names| String::from_utf8_lossy(&names.join(&b',')).into_owned());
    let flags = if flags.is_empty() { "defaults" } else { &flags };
    format!("'{data}' is the filesystem's own, which stands behind the flags: write '{flags} {data}'")
}

/// Parses `FUNCTION ARGUMENT`. uWSGI can call any function of its process, this program those of a table.
fn call(argument: &[u8], number: bool) -> Parsed<Action> {
    let mut rest = argument;
    let name = take(&mut rest);
    let kind = pick("function", &FUNCTIONS, name).map_err(|message| {
        if message.ends_with('?') {
            return message;
        }
        // A single call such as setuid(2) would drop only a part of the privileges.
        message + "; who we are is only changed by 'uid', 'gid' and 'add-gid'"
    })?;
    match (matches!(kind, Kind::Umask), number) {
        (false, false) => action(kind, rest),
        (true, true) => mask(rest),
        (true, false) => Err(format!("{} takes a number: write 'callint'", quoted(name))),
        (false, true) => Err(format!("{} takes a text: write 'callret'", quoted(name))),
    }
}

/// A mask as uWSGI's `callint` takes it: decimal.
fn mask(text: &[u8]) -> Parsed<Action> {
    if text.len() > 1 && text.starts_with(b"0") {
        return Err(format!("{} counts as decimal here: write 'umask:' for octal", quoted(text)));
    }
    number(text, 0o777).map(Action::Umask)
}

fn number(text: &[u8], max: u32) -> Parsed<u32> {
    match values::count(text)? {
        number if number <= max => Ok(number),
        _ => Err(format!("{} is more than {max}", quoted(text))),
    }
}

fn path_and_text(mut rest: &[u8]) -> Parsed<(&[u8], &[u8])> {
    let path = word(&mut rest, "path")?;
    if rest.is_empty() { Err("the text is missing".to_owned()) } else { Ok((path, rest)) }
}

/// The next word.
fn word<'a>(rest: &mut &'a [u8], what: &str) -> Parsed<&'a [u8]> {
    *rest = rest.trim_ascii_start();
    match take(rest) {
        [] => Err(format!("the {what} is missing")),
        word => Ok(word),
    }
}

/// Takes the text up to the next blank, and the blank.
fn take<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let (word, after) = split_once(rest, b' ').unwrap_or((rest, b""));
    *rest = after;
    word
}

fn os(text: &[u8]) -> OsString {
    OsString::from_vec(text.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Id;

    fn good(text: &str) -> Action {
        parse(text.as_bytes()).map(|step| step.action).unwrap_or_else(|message| panic!("{text}: {message}"))
    }

    fn wrong(text: &str) -> String {
        parse(text.as_bytes()).err().unwrap_or_else(|| panic!("{text} is good"))
    }

    #[test]
    fn the_tables_are_in_order() {
        assert!(names().is_sorted_by(|a, b| a < b));
        assert!(super::functions().is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn actions_of_one_argument() {
        assert_eq!(good("exec:a:b  c"), Action::Exec("a:b  c".into()));
        assert_eq!(good("cd:/a b"), Action::Chdir("/a b".into()));
        assert_eq!(good("chdir:x"), Action::Chdir("x".into()));
        assert_eq!(good("chroot:/x"), Action::Chroot("/x".into()));
        assert_eq!(good("mkdir:/x"), Action::Mkdir("/x".into()));
        assert_eq!(good("rmdir:/x"), Action::Rmdir("/x".into()));
        assert_eq!(good("create:/x"), Action::Create("/x".into()));
        assert_eq!(good("creat:/x"), Action::Create("/x".into()));
        assert_eq!(good("unlink:/x"), Action::Unlink("/x".into()));
        assert_eq!(good("sticky:/x"), Action::Sticky("/x".into()));
        assert_eq!(good("hostname:h"), Action::Hostname("h".into()));
        assert_eq!(good("putenv:A=b=c d"), Action::Putenv("A".into(), "b=c d".into()));
        assert_eq!(good("umask:027"), Action::Umask(0o27));
        assert_eq!((good("exit:"), good("exit:7")), (Action::Exit(0), Action::Exit(7)));
        assert_eq!(
            (good("print:"), good("log:a:b")),
            (Action::Print("".into()), Action::Print("a:b".into()))
        );
        assert_eq!(good("alarm:mail it broke"), Action::Print("alarm mail: it broke".into()));
        for (name, kind) in [
            ("fs", WaitKind::Any),
            ("file", WaitKind::File),
            ("dir", WaitKind::Directory),
            ("socket", WaitKind::Socket),
        ] {
            assert_eq!(good(&format!("wait_for_{name}:/x")), Action::WaitFor { kind, path: "/x".into() });
        }
    }

    #[test]
    fn actions_on_files() {
        let write = |text: &str, append| Action::Write { path: "/x".into(), text: text.into(), append };
        assert_eq!(good("write:/x a  b"), write("a  b", false));
        assert_eq!(good("writen:/x a"), write("a\n", false));
        assert_eq!(good("append:/x a"), write("a", true));
        assert_eq!((good("appendn:/x a"), good("appendn:/x")), (write("a\n", true), write("\n", true)));
        let fifo = |wait| Action::WriteFifo { path: "/x".into(), text: "a b".into(), wait };
        assert_eq!((good("writefifo:/x a b"), good("spinningfifo:/x a b")), (fifo(false), fifo(true)));
        assert_eq!(good("chmod:/x 1750"), Action::Chmod { path: "/x".into(), mode: 0o1750 });
        let chown = |user, group| Action::Chown { path: "/x".into(), user, group };
        assert_eq!(good("chown:/x a b"), chown(Id::Name("a".into()), Some(Id::Name("b".into()))));
        assert_eq!(good("chown:/x a"), chown(Id::Name("a".into()), None));
        assert_eq!(good("chown2:/x 1 2"), chown(Id::Number(1), Some(Id::Number(2))));
    }

    #[test]
    fn mounts() {
        let mount = |fs: &str, source: &str, flags, data: &str| {
            let (fs_type, source, target) = (fs.into(), source.into(), "/t".into());
            Action::Mount(MountRequest { fs_type, source, target, flags, data: data.into() })
        };
        assert_eq!(good("mount:proc none /t"), mount("proc", "none", 0, ""));
        assert_eq!(
            good("mount:none /s /t bind,ro"),
            mount("none", "/s", libc::MS_BIND | libc::MS_RDONLY, "")
        );
        assert_eq!(good("mount:none  /s   /t rbind"), mount("none", "/s", libc::MS_BIND | libc::MS_REC, ""));
        assert_eq!(good("mount: /s /t bind"), mount("none", "/s", libc::MS_BIND, ""));
        let data = "lowerdir=/a:/b,upperdir=/c";
        assert_eq!(good(&format!("mount:overlay o /t defaults {data}")), mount("overlay", "o", 0, data));
        assert_eq!(wrong("mount:none /s /t bind ro"), "a bind has no DATA: write 'bind,FLAG'");
        assert_eq!(wrong("mount:proc none"), "the target is missing");
        assert_eq!(wrong("mount:proc"), "the source is missing");
        assert_eq!(
            wrong("mount:none /s /t remuont"),
            "unknown mount flag 'remuont', did you mean 'remount'?"
        );
        let of_tmpfs = "is the filesystem's own, which stands behind the flags: write";
        assert_eq!(wrong("mount:tmpfs t /t size=1m"), format!("'size=1m' {of_tmpfs} 'defaults size=1m'"));
        assert_eq!(
            wrong("mount:tmpfs t /t ro,size=1m,noexec,mode=700"),
            format!("'size=1m,mode=700' {of_tmpfs} 'ro,noexec size=1m,mode=700'")
        );
        assert!(wrong("mount:none /s /t detach").starts_with("unknown mount flag 'detach' (there are"));

        let fuse = |flags, command: [&str; 2]| {
            Action::Fuse(Fuse { target: "/t".into(), flags, command: command.map(Into::into) })
        };
        assert_eq!(good("fuse:/t x -o ro /s {} &"), fuse(0, ["x -o ro /s ", " &"]));
        let flags = flags::FUSE_ALLOW_OTHER | libc::MS_RDONLY;
        assert_eq!(good("fuse:/t -o allow_other,ro x {}"), fuse(flags, ["x ", ""]));
        assert_eq!(wrong("fuse:/t x /t"), "the command has no {}, which stands for the mountpoint");
        assert_eq!(wrong("fuse:/t"), wrong("fuse:/t x"));
        assert_eq!(wrong("fuse:t x {}"), "'t' is not an absolute path");
        assert_eq!(
            (wrong("fuse:"), wrong("fuse:/t -o ")),
            ("the directory is missing".to_owned(), "the list of options is missing".to_owned())
        );
        assert_eq!(
            wrong("fuse:/t -o suid x {}"),
            "unknown option 'suid' (there are allow_other, default_permissions, noatime, noexec, ro)"
        );

        let umount = |recursive, flags| Action::Umount(Umount { target: "/t".into(), recursive, flags });
        assert_eq!(good("umount:/t"), umount(false, 0));
        assert_eq!(good("umount:/t rec,detach"), umount(true, libc::MNT_DETACH.cast_unsigned()));
        assert_eq!(good("umount:/t lazy"), good("umount:/t detach"));
        assert_eq!(good("umount:/t force"), umount(false, libc::MNT_FORCE.cast_unsigned()));
        assert_eq!(
            wrong("umount:/t bind"),
            "unknown umount flag 'bind' (there are detach, force, lazy, nofollow, rec, recursive)"
        );
    }

    #[test]
    fn functions() {
        assert_eq!(good("callret:chdir /"), Action::Chdir("/".into()));
        assert_eq!(good("call:sethostname h"), Action::Hostname("h".into()));
        assert_eq!(
            (good("callint:umask 18"), good("callintret:umask 0")),
            (Action::Umask(0o22), Action::Umask(0))
        );
        let table = "(there are chdir, chroot, mkdir, rmdir, sethostname, umask, unlink); \
            who we are is only changed by 'uid', 'gid' and 'add-gid'";
        assert_eq!(wrong("call:setuid 0"), format!("unknown function 'setuid' {table}"));
        assert_eq!(
            wrong("call:sethostnmae h"),
            "unknown function 'sethostnmae', did you mean 'sethostname'?"
        );
        assert_eq!(wrong("callint:umask 022"), "'022' counts as decimal here: write 'umask:' for octal");
        assert_eq!(wrong("call:umask 22"), "'umask' takes a number: write 'callint'");
        assert_eq!(wrong("callint:chdir 22"), "'chdir' takes a text: write 'callret'");
        assert_eq!(wrong("call:chdir"), "the value is missing");
    }

    #[test]
    fn mistakes() {
        assert_eq!(wrong("exec  /x y"), "'exec  /x y' is not action:argument: write 'exec:/x y'");
        for text in ["mount=proc none /t", "mount\u{ff1a}proc none /t", "mount;proc none /t"] {
            assert!(wrong(text).ends_with("is not action:argument: write 'mount:proc none /t'"), "{text}");
        }
        for text in ["mount:bind /a /b", "mount:rbind /a /b ro"] {
            assert_eq!(wrong(text), "a bind is a flag: write 'mount:none SOURCE TARGET bind'");
        }
        for text in [
            "mount:-t proc none /t",
            "mount:tmpfs none /t -o size=1m",
            "mount: proc none /t",
            "mount:/a /b bind",
        ] {
            assert_eq!(wrong(text), "it takes TYPE SOURCE TARGET FLAGS DATA", "{text}");
        }
        assert_eq!(wrong("/x"), "'/x' is not action:argument");
        assert_eq!(wrong("/x y"), "'/x y' is not action:argument");
        assert_eq!(wrong("chidr:/"), "unknown action 'chidr', did you mean 'chdir'?");
        assert!(wrong("nothing:/").starts_with("unknown action 'nothing' (there are alarm, append"));
        assert!(wrong("!chidr:/").starts_with("unknown action 'chidr'"));
        for text in ["exec:", "safeexec:", "cd:", "mkdir:", "hostname:", "wait_for_fs:", "call:chdir "] {
            assert_eq!(wrong(text), "the value is missing", "{text}");
        }
        for text in ["write:/x", "append:/x ", "writefifo:/x", "spinningfifo:/x"] {
            assert_eq!(wrong(text), "the text is missing", "{text}");
        }
        for text in ["write:", "chmod:", "chown: ", "umount:", "appendn:"] {
            assert_eq!(wrong(text), "the path is missing", "{text}");
        }
        assert_eq!(wrong("chown:/x"), "the user is missing");
        assert_eq!(wrong("alarm:"), "the alarm is missing");
        assert_eq!(wrong("chown2:/x a 1"), "it takes numbers: 'chown' takes names");
        assert_eq!(wrong("chmod:/x u+x"), "'u+x' is not an octal mode: write 022");
        assert_eq!(wrong("chmod:/x 17777"), "'17777' is not an octal mode: write 022");
        assert_eq!(wrong("umask:1777"), "'1777' is not an octal mode: write 022");
        assert_eq!(wrong("exit:256"), "'256' is more than 255");
        assert_eq!(wrong("exit:x"), "'x' is not a whole number");
        assert_eq!(wrong("putenv:A"), "'A' is not NAME=VALUE");
        assert!(wrong(&format!("hostname:{}", "x".repeat(65))).ends_with("is longer than 64 bytes"));
    }

    #[test]
    fn what_is_let_pass_and_what_is_private() {
        let step = |text: &str| {
            parse(text.as_bytes())
                .map(|step| (step.tolerant, step.private))
                .unwrap_or_else(|message| panic!("{message}"))
        };
        assert_eq!(step("exec:x"), (false, None));
        assert_eq!(step("callret:chdir /"), (false, None));
        assert_eq!(step("call:chdir /"), (true, None));
        assert_eq!(step("callint:umask 0"), (true, None));
        assert_eq!(step("!safeexec:x"), (true, Some("safeexec".into())));
    }
}
