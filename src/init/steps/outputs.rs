//! Where the app and the commands of hooks write to is opened before the change of root and the privilege
//! drop.
//!
//! A log keeps no app from running: what cannot be had is told, and the output goes where that of PID 1 goes.

use std::path::Path;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, Stat, fcntl_getfl, fcntl_setfl, fstat, open as open_file};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, shutdown, socket_with,
};
use rustix::stdio::stderr;

use crate::config::plan::{Located, Output, VassalPlan};
use crate::error::{Context, Error, Result};
use crate::init::child::outputs::Stream;
use crate::init::child::relay::Relay;
use crate::init::event_loop::event_loop::EventLoop;
use crate::init::jail::Jail;
use crate::init::outcome::Ended;
use crate::path::absolute;
use crate::protocol::FromVassal;
use crate::running_time;
use crate::sys::fd::write_all;

/// How long the filesystem of a file may take to open it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the journal takes the output of programs.
const JOURNAL: &str = "/run/systemd/journal/stdout";

/// Opens what the plan names; what it does not name stays as it is.
///
/// # Errors
/// The end of the vassal, as it was interrupted.
pub fn open(events: &mut EventLoop, jail: &mut Jail, plan: &VassalPlan) -> Result<(), Ended> {
    let (out, err) = (&plan.output.out, &plan.output.err);
    if let Some(place) = out {
        let stream = stream(events, plan, place)?;
        jail.set_output(stream);
    }
    if let Some(place) = err {
        let is_same = out.as_ref().is_some_and(|out| out.value == place.value);
        let stream = if is_same { None } else { Some(stream(events, plan, place)?) };
        jail.set_errors(stream);
    }
    let places = jail.given.outputs.places();
    if !places.is_empty() {
        events.send(&FromVassal::Output(places));
    }
    Ok(())
}

/// Has a relay copy what an owner's commands and app write to the stream of PID 1, if that is a socket: who
/// has one can shut it down (shutdown(2)), for all other vassals as well. The owner is to have no power over
/// the relay, so this is done as root. Without room for a process nothing else can start either.
pub fn guard(jail: &mut Jail) {
    let is_socket = |it: Stat| FileType::from_raw_mode(it.st_mode) == FileType::Socket;
    if fstat(stderr()).is_ok_and(is_socket)
        && let Ok((relay, pipe)) = Relay::start(Path::new(""))
    {
        jail.given.outputs.guard = Some(Stream::File(pipe, relay));
    }
}

/// Opens a place for output. If it cannot be had, that of PID 1 takes its place.
fn stream(events: &mut EventLoop, plan: &VassalPlan, place: &Located<Output>) -> Result<Stream, Ended> {
    let opened = match &place.value {
        Output::Inherit => Ok(Stream::Inherited),
        Output::Null => open_file(c"/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .context("open", "/dev/null")
            .map(Stream::Null),
        Output::Journal => journal(identifier(plan)),
        Output::File(path) => file(events, path),
    };
    opened.or_else(|error| {
        events.check()?;
        let why = format!("{}: {}: {error}", place.at, place.key);
        crate::log!("{why}: the output goes where ours goes");
        // A line of its own, for the emperor.
        Ok(Stream::Instead(why.replace('\n', " ")))
    })
}

/// Starts a relay, and waits until it has opened the file.
fn file(events: &mut EventLoop, path: &Path) -> Result<Stream> {
    // That of 'logto' may be relative.
    let (relay, pipe) = Relay::start(&absolute(path))?;
    let deadline = running_time::now() + PATIENCE;
    let why = loop {
        if let Some(opened) = relay.opened() {
            return opened.map(|()| Stream::File(pipe, relay));
        }
        if running_time::now() >= deadline {
            break "not done after 2 s: does its filesystem answer?";
        }
        if let Err(interruption) = events.pause(Some(relay.link()), Some(deadline)) {
            events.put_interruption_back(*interruption);
            break "interrupted while waiting for it";
        }
    };
    Err(Error::new("open", path.display(), why))
}

/// Whom the journal puts lines down to: the vassal; or the program, if it is a command.
fn identifier(plan: &VassalPlan) -> String {
    let name = crate::log::vassal();
    // Of several instances the log has the number, too.
    let vassal = name.rsplit_once('/').filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
    let name = vassal.map_or(name, |(vassal, _)| vassal);
    let program = Path::new(plan.app.program()).file_name().unwrap_or_default();
    let name = if name.is_empty() { program.to_string_lossy().into_owned() } else { name.to_owned() };
    name.replace('\n', " ")
}

/// Connects to the journal, which puts the lines down to this identifier.
fn journal(identifier: String) -> Result<Stream> {
    let connect = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(JOURNAL)?)?;
        let _ = shutdown(&socket, Shutdown::Read);
        fcntl_setfl(&socket, fcntl_getfl(&socket)? - OFlags::NONBLOCK)?;
        // Identifier, unit, priority of lines without their own (info), whether they may have one, and
        // whether they go to syslog, the kernel's log and the console as well.
        write_all(rustix::fd::AsFd::as_fd(&socket), format!("{identifier}\n\n6\n1\n0\n0\n0\n").as_bytes())?;
        Ok(socket)
    };
    let connected: Result<_, Errno> = connect();
    connected.context("connect to the journal at", JOURNAL).map(|socket| Stream::Journal(socket, identifier))
}
