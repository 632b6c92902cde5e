//! `faulty-fuse`: a FUSE daemon for tests, which misbehaves when told to. It speaks the kernel's protocol
//! itself (linux/fuse.h), so that nothing answers in its place.
//!
//! usage: faulty-fuse MOUNTPOINT MODE_FILE [OPTION]...
//!
//! It has one file, `file`, leaves itself in the background, and looks at MODE_FILE all the time: the mode is
//! the first word in it. Requests that are held are answered when the mode changes; the file MODE_FILE.held
//! has the opcodes of those that were read and not answered, MODE_FILE.late how many GETATTR were answered by
//! `slow`.
//!
//!   (empty)       answer everything
//!   hold          read every request, answer none
//!   hold-status   the same for what asks for attributes or statistics: GETATTR and STATFS
//!   hold-data     the same for what reads a file
//!   slow MS       answer everything, that much later
//!   errno NUMBER  answer GETATTR and STATFS of the root with this error
//!   once NUMBER   answer the next such request with this error, and then as without a mode
//!   exit          end at once
//!
//! Options:
//!   direct        mount(2) it, as root and for everybody; else fusermount3 does it, for this user alone
//!   block=DEVICE  the same as a filesystem on this block device (fuseblk)
//!   cache         the kernel may keep attributes for an hour
//!   held          a second process keeps the connection open
//!   good          it never looks at MODE_FILE, and costs nothing while nobody asks
//!   last          it has so much memory that it ends after all that are killed with it
//!   pid=PID       it is in user and pid namespaces of its own, where it has that number

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test's tool

use std::collections::VecDeque;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, FdFlags};
use rustix::mount::{MountFlags, mount};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg,
    socketpair,
};

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

const ROOT: u64 = 1;
const FILE: u64 = 2;
const CONTENT: &[u8] = b"content\n";
const NAME: &[u8] = b"file";

/// Leaves the program `$@` in a new pid namespace as number `$0`. The shell itself is outside, so its
/// children are handed to the PID 1 there when it ends.
const NESTED: &str = r#"
    exec 3<&0
    sleep 1000 3<&- &
    sh -c "echo $(($0 - 1)) > /proc/sys/kernel/ns_last_pid"
    "$@" <&3 3<&- &
"#;

#[allow(clippy::zombie_processes)] // those it starts are there to outlive it
fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    if has("--serve") {
        // Never read, and so not left out by the compiler only if it may be.
        let memory = vec![1_u8; if has("last") { 128 << 20 } else { 0 }];
        let mode_file = Some(arguments[2].as_str()).filter(|_| !has("good"));
        serve(rustix::stdio::stdin(), mode_file, if has("cache") { 3600 } else { 0 });
        drop(std::hint::black_box(memory));
        return;
    }
    let block = arguments.iter().find_map(|argument| argument.strip_prefix("block="));
    let connection = match block {
        Some(device) => mount_directly(device, &arguments[1], "fuseblk", ",blksize=512"),
        None if has("direct") => mount_directly("faulty", &arguments[1], "fuse.faulty", ""),
        None => fusermount(&arguments[1]),
    };
    let input = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
    if has("held") {
        Command::new("sleep").arg("1000").stdin(input(&connection)).spawn().unwrap();
    }
    // /proc may be that of another pid namespace, which knows nothing of us.
    let program = std::path::PathBuf::from(&arguments[0]);
    let nested = arguments.iter().find_map(|argument| argument.strip_prefix("pid="));
    let mut daemon = Command::new(if nested.is_some() { "unshare".as_ref() } else { program.as_path() });
    if let Some(pid) = nested {
        daemon.args(["-U", "-r", "--pid", "sh", "-c", NESTED, pid]).arg(program);
    }
    daemon.arg("--serve").args(&arguments[2..]).stdin(input(&connection));
    // Whoever reads what the mounting said is not to wait for the daemon.
    daemon.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
}

fn device() -> OwnedFd {
    open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn mount_directly(source: &str, place: &str, fs_type: &str, more: &str) -> OwnedFd {
    let connection = device();
    let fd = connection.as_raw_fd();
    let data = format!("fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other{more}\0");
    let data = std::ffi::CStr::from_bytes_with_nul(data.as_bytes()).unwrap();
    mount(source, place, fs_type, MountFlags::NOSUID | MountFlags::NODEV, data).unwrap();
    connection
}

/// As libfuse does it: the helper sends the open connection back over a socket that it inherits.
fn fusermount(place: &str) -> OwnedFd {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    rustix::io::fcntl_setfd(&theirs, FdFlags::empty()).unwrap();
    let mut helper = Command::new("fusermount3");
    helper.args(["-o", "fsname=faulty,subtype=faulty", "--", place]);
    helper.env("_FUSE_COMMFD", theirs.as_raw_fd().to_string());
    assert!(helper.status().unwrap().success(), "fusermount3 {place}");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut iov = [std::io::IoSliceMut::new(&mut byte)];
    recvmsg(&ours, &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let fds = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fds.expect("no connection from fusermount3")
}

/// A request that was read: what is asked, its number, of which node, and the rest.
struct Request {
    opcode: u32,
    unique: u64,
    node: u64,
    body: Vec<u8>,
    since: Instant,
}

fn serve(connection: BorrowedFd<'_>, mode_file: Option<&str>, cache: u64) {
    let mut waiting: VecDeque<Request> = VecDeque::new();
    let mut answered_late = 0;
    let mut has_failed = false;
    let mut buffer = vec![0; 1 << 17];
    loop {
        let mut fds = [PollFd::from_borrowed_fd(connection.as_fd(), PollFlags::IN)];
        let timeout = mode_file.map(|_| Timespec { tv_sec: 0, tv_nsec: 5_000_000 });
        if poll(&mut fds, timeout.as_ref()).unwrap() > 0 {
            match rustix::io::read(connection, &mut buffer) {
                Ok(length) => waiting.push_back(parse(&buffer[..length])),
                // Taken back before it was read.
                Err(Errno::NOENT | Errno::INTR | Errno::AGAIN) => {}
                // Unmounted or aborted.
                Err(_) => return,
            }
        }
        let text = mode_file.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
        let mut words = text.split_whitespace();
        let mode = words.next().unwrap_or_default();
        if mode == "exit" {
            return;
        }
        let number: u64 = words.next().map_or(0, |word| word.parse().unwrap());
        let delay = Duration::from_millis(if mode == "slow" { number } else { 0 });
        let is_failing = mode == "errno" || (mode == "once" && !has_failed);
        let is_held = |request: &Request| match mode {
            "hold" => true,
            "hold-status" => [GETATTR, STATFS].contains(&request.opcode),
            "hold-data" => request.opcode == READ,
            _ => request.since.elapsed() < delay,
        };
        let before = waiting.len();
        for request in std::mem::take(&mut waiting) {
            let is_status = request.node == ROOT && [GETATTR, STATFS].contains(&request.opcode);
            if is_held(&request) {
                waiting.push_back(request);
            } else if is_failing && is_status {
                has_failed = true;
                reply(connection, request.unique, Err(Errno::from_raw_os_error(number as i32)));
            } else {
                answer(connection, &request, cache);
                answered_late += u32::from(!delay.is_zero() && request.opcode == GETATTR);
            }
        }
        if let Some(mode_file) = mode_file.filter(|_| before > 0) {
            let opcodes: Vec<_> = waiting.iter().map(|request| request.opcode.to_string()).collect();
            fs::write(format!("{mode_file}.held"), opcodes.join(" ")).unwrap();
            fs::write(format!("{mode_file}.late"), answered_late.to_string()).unwrap();
        }
    }
}

fn parse(packet: &[u8]) -> Request {
    let u32_at = |at: usize| u32::from_ne_bytes(packet[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_ne_bytes(packet[at..at + 8].try_into().unwrap());
    let (opcode, unique, node) = (u32_at(4), u64_at(8), u64_at(16));
    Request { opcode, unique, node, body: packet[40..].to_vec(), since: Instant::now() }
}

fn answer(connection: BorrowedFd<'_>, request: &Request, cache: u64) {
    let result = match request.opcode {
        FORGET | BATCH_FORGET | INTERRUPT => return,
        // Version 7.31, no features; 4 KiB at a time.
        INIT => Ok(words(&[7, 31, 0, 0, 0, 4096, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        GETATTR => Ok([longs(&[cache, 0]), attributes(request.node)].concat()),
        LOOKUP if request.body.starts_with(NAME) => {
            Ok([longs(&[FILE, 0, cache, cache, 0]), attributes(FILE)].concat())
        }
        LOOKUP => Err(Errno::NOENT),
        OPEN | OPENDIR => Ok(longs(&[0, 0])),
        READ if u64::from_ne_bytes(request.body[8..16].try_into().unwrap()) == 0 => Ok(CONTENT.to_vec()),
        READ => Ok(Vec::new()),
        READDIR if u64::from_ne_bytes(request.body[8..16].try_into().unwrap()) == 0 => {
            Ok([longs(&[FILE, 1]), words(&[NAME.len() as u32, 8]), NAME.to_vec(), vec![0; 4]].concat())
        }
        READDIR | RELEASE | RELEASEDIR | FLUSH => Ok(Vec::new()),
        STATFS => Ok(vec![0; 80]),
        _ => Err(Errno::NOSYS),
    };
    reply(connection, request.unique, result);
}

fn reply(connection: BorrowedFd<'_>, unique: u64, result: Result<Vec<u8>, Errno>) {
    let (error, body) = match result {
        Ok(body) => (0, body),
        Err(errno) => (-errno.raw_os_error(), Vec::new()),
    };
    let header = [words(&[16 + body.len() as u32, error as u32]), longs(&[unique])].concat();
    // One that was interrupted meanwhile is not waited for.
    let _ = rustix::io::write(connection, &[header, body].concat());
}

fn attributes(node: u64) -> Vec<u8> {
    let is_root = node == ROOT;
    let mode = if is_root { 0o40755 } else { 0o100_644 };
    let sizes = longs(&[node, if is_root { 0 } else { CONTENT.len() as u64 }, 0, 0, 0, 0]);
    [sizes, words(&[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0])].concat()
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

fn longs(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}
