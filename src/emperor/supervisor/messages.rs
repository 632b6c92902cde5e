//! Messages on the links, and clients of vassals on demand.

use std::fmt::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

use super::handles::Ready;
use super::supervisor::Supervisor;
use crate::emperor::core::event::{Event, InstanceEvent};
use crate::emperor::core::instance_id::{FIRST, InstanceId};
use crate::emperor::instance::kept_sockets::Kept;
use crate::emperor::instance::process::Packet;
use crate::emperor::instance::readers::{About, Purpose};
use crate::log::printable;
use crate::protocol::{ExitReason, FromVassal, KeptSocket, SocketId, TRANSCRIPT_MAX};
use crate::sys::memfd;
use crate::{log, log_of};

/// How many packets of one vassal are read in a turn. This is more than the buffer of a socket holds, so that
/// the link of a dead vassal is read completely, yet a flood does not keep the emperor busy. A normal vassal
/// sends three in its life and two for each reload.
const PACKETS_PER_TURN: usize = 512;

/// How many on-demand sockets are checked in one turn.
const LOOKED_AT: usize = 256;

/// What that means for a socket whose file was removed, and what helps.
const CUT_OFF: &str = "who connects there does not reach it; a reload binds it anew";

impl Supervisor {
    /// Takes in messages and first connections.
    pub fn listen_to_vassals(&mut self, now: Instant) {
        for ready in self.handles.ready() {
            match ready {
                Ready::Link(id) => self.read_messages(&id, now),
                Ready::Client(file) => self.apply(&file, Event::Connected, now),
                Ready::Reader(pid) => {
                    self.readers.listen(pid, self.handles.as_fd());
                    self.run_effects(now);
                }
            }
        }
    }

    /// Checks whether clients can still reach the sockets of some vassals, starting at an index. For those on
    /// demand, readers look where the kernel does not know, and those whose files are gone are bound anew. Of
    /// others that is told: only PID 1 knows whether the app has put another one there. Returns the index to
    /// continue at.
    pub fn renew_sockets(&mut self, from: usize, now: Instant) -> usize {
        let mut next = 0;
        let mut unknown = Vec::new();
        for (index, (file, vassal)) in self.registry.vassals().enumerate().skip(from) {
            if index >= from + LOOKED_AT {
                next = index;
                break;
            }
            if (vassal.is_waiting() || vassal.is_running())
                && let Some(path) = self.handles.kept(file).and_then(Kept::to_look_at)
                && !self.readers.is_asked(&InstanceId::new(file, FIRST), About::Socket)
            {
                unknown.push((Rc::clone(file), path.clone()));
            }
            if vassal.is_running() {
                for socket in self.handles.newly_removed(file) {
                    log_of!(file, "the file of its socket {socket} was removed: {CUT_OFF}");
                }
            }
        }
        for (file, path) in unknown {
            self.read(&InstanceId::new(&file, FIRST), Some(path), Purpose::Look, now);
        }
        self.run_effects(now);
        next
    }

    /// The sockets of running vassals that no client can connect to, one line for each.
    pub fn cut_off(&self) -> String {
        let mut lines = String::new();
        for (file, _) in self.registry.vassals().filter(|(_, vassal)| vassal.is_running()) {
            for socket in self.handles.kept(file).into_iter().flat_map(Kept::removed) {
                let (name, socket) = (file.shown(), printable(socket.to_string()));
                let _ = writeln!(lines, "The file of {socket}, a socket of {name}, was removed: {CUT_OFF}");
            }
        }
        lines
    }

    /// Reads the link of an instance.
    pub(super) fn read_messages(&mut self, id: &InstanceId, now: Instant) {
        for count in 0..PACKETS_PER_TURN {
            match self.handles.receive(id) {
                Packet::Nothing if count > 0 => return self.handles.note_fuse(id, &self.fusectl),
                Packet::Nothing => return,
                Packet::Message(FromVassal::Sockets(sockets), _) => self.handles.retain(id, sockets),
                Packet::Message(FromVassal::Keep(socket), Some(fd)) => self.keep_socket(id, socket, fd),
                Packet::Message(FromVassal::Transcript, Some(file)) => {
                    if let Some(text) = memfd::content(&file, TRANSCRIPT_MAX) {
                        self.apply_to(id, InstanceEvent::Transcript(text), now);
                    }
                }
                Packet::Message(mut message, _) => {
                    if let FromVassal::Exiting(ExitReason::Setup(failure)) = &mut message
                        && failure.what.contains("(EADDRINUSE)")
                    {
                        self.name_holder(id, &mut failure.what);
                    }
                    self.apply_to(id, InstanceEvent::Said(message), now);
                }
                Packet::End(mistake) => return self.apply_to(id, InstanceEvent::LinkClosed(mistake), now),
            }
        }
    }

    /// Adds which vassal has the address that another one could not have: PID 1 of that sees no process of
    /// others.
    fn name_holder(&self, of: &InstanceId, what: &mut String) {
        for (file, _) in self.registry.vassals() {
            let kept = self.handles.kept(file);
            if *file != of.file && kept.is_some_and(|kept| kept.is_in_the_way(what)) {
                *what += ": vassal ";
                *what += &file.shown();
                return;
            }
        }
    }

    fn keep_socket(&mut self, of: &InstanceId, id: SocketId, fd: OwnedFd) {
        let (processes, sockets) = (self.handles.processes(), self.handles.sockets() + 1);
        let (room, name) = (self.spawner.has_room(processes, sockets), id.to_string());
        if let Err(error) =
            room.and_then(|()| self.handles.keep_socket(of, KeptSocket { id, fd, is_lent: false }))
        {
            log::line(&self.registry.name_of(of), format_args!("{name} is not kept: {error}"));
        }
    }
}
