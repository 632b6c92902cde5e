//! The descriptors of vassals: processes with their links, and sockets.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::event::{Timespec, epoll};

use crate::emperor::core::file_version::FileId;
use crate::emperor::core::instance_id::InstanceId;
use crate::emperor::core::owner::Owner;
use crate::emperor::core::sorted_map::SortedMap;
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::instance::kept_sockets::{Kept, Left, LeftFile};
use crate::emperor::instance::process::{Packet, Process};
use crate::emperor::instance::readers::READER;
use crate::emperor::instance::spawner::Spawner;
use crate::error::{Context, Error, Result};
use crate::mount::fuse;
use crate::mount::fusectl::Fusectl;
use crate::protocol::{KeptSocket, SocketId};

/// Set in the events of on-demand sockets, and not in those of links. The lower bits are the number of the
/// descriptor.
const ON_DEMAND: u64 = 1 << 32;

/// How many links are looked at per turn.
const LINKS_PER_TURN: usize = 64;

/// All descriptors of vassals.
pub(super) struct Handles {
    /// Readable when a link, the link of a reader, or a polled on-demand socket is. The events of links carry
    /// the pid.
    events: OwnedFd,
    by_file: SortedMap<Rc<VassalFile>, Box<Handle>>,
    by_pid: SortedMap<i32, InstanceId>,
    by_polled_fd: SortedMap<i32, Rc<VassalFile>>,
    /// How many sockets are kept for all vassals together.
    sockets: u64,
    /// The sockets that are no longer kept.
    left: Left,
}

/// The descriptors of one vassal.
#[derive(Default)]
struct Handle {
    /// The processes of its instances, with their numbers.
    processes: Vec<(u16, Process)>,
    /// The kept sockets, if there are any.
    sockets: Option<Box<Kept>>,
    /// The descriptor of the on-demand socket while it is polled for the first connection.
    polled_fd: Option<i32>,
}

/// A descriptor that is ready.
pub(super) enum Ready {
    /// The link of an instance has something to read.
    Link(InstanceId),
    /// A client has connected to an on-demand socket.
    Client(Rc<VassalFile>),
    /// The reader with this pid has sent something.
    Reader(i32),
}

impl Handle {
    fn process_mut(&mut self, number: u16) -> Option<&mut Process> {
        self.processes.iter_mut().find(|(other, _)| *other == number).map(|(_, process)| process)
    }
}

impl Handles {
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM (epoll_create1(2)).
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            events: epoll::create(epoll::CreateFlags::CLOEXEC).context("create", "epoll")?,
            by_file: SortedMap::default(),
            by_pid: SortedMap::default(),
            by_polled_fd: SortedMap::default(),
            sockets: 0,
            left: Left::default(),
        })
    }

    /// The descriptors that are ready now, or some of them.
    pub(super) fn ready(&self) -> Vec<Ready> {
        let mut events = Vec::with_capacity(LINKS_PER_TURN);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        if epoll::wait(&self.events, rustix::buffer::spare_capacity(&mut events), Some(&at_once)).is_err() {
            return Vec::new();
        }
        let mut ready = Vec::new();
        for event in events {
            let number = event.data.u64() as i32;
            let one = match event.data.u64() {
                READER.. => Some(Ready::Reader(number)),
                ON_DEMAND.. => self.by_polled_fd.get(&number).cloned().map(Ready::Client),
                _ => self.by_pid.get(&number).cloned().map(Ready::Link),
            };
            if let Some(one) = one {
                ready.push(one);
            }
        }
        ready
    }

    /// The number of processes.
    pub(super) fn processes(&self) -> usize {
        self.by_pid.len()
    }

    /// How many sockets are kept for all vassals together.
    pub(super) fn sockets(&self) -> u64 {
        self.sockets
    }

    /// The instance of a process.
    pub(super) fn instance_of(&self, pid: i32) -> Option<&InstanceId> {
        self.by_pid.get(&pid)
    }

    /// The process of an instance.
    pub(super) fn process(&self, id: &InstanceId) -> Option<&Process> {
        let processes = &self.by_file.get(&id.file)?.processes;
        processes.iter().find(|(number, _)| *number == id.number).map(|(_, process)| process)
    }

    /// The cgroup that the emperor has made for an instance.
    pub(super) fn cgroup(&self, file: &VassalFile, number: u16) -> Option<&Path> {
        let processes = &self.by_file.get(file)?.processes;
        let (_, process) = processes.iter().find(|(known, _)| *known == number)?;
        Some(process.cgroup.as_ref()?.path())
    }

    /// Whether all processes of a vassal may continue with a file that now belongs to `owner`.
    pub(super) fn may_run(&self, file: &Rc<VassalFile>, spawner: &Spawner, owner: Owner) -> bool {
        let processes = self.by_file.get(file).map(|handles| handles.processes.iter());
        processes.into_iter().flatten().all(|(_, process)| spawner.may_run(process, owner))
    }

    /// Whether a vassal has a process.
    pub(super) fn has_process(&self, file: &VassalFile) -> bool {
        self.by_file.get(file).is_some_and(|handle| !handle.processes.is_empty())
    }

    fn process_mut(&mut self, id: &InstanceId) -> Option<&mut Process> {
        self.by_file.get_mut(&id.file)?.process_mut(id.number)
    }

    /// The kept sockets of a vassal; `None` if it has none.
    pub(super) fn kept(&self, file: &VassalFile) -> Option<&Kept> {
        self.by_file.get(file)?.sockets.as_deref()
    }

    /// The trouble with the file of a vassal's on-demand socket, if it is new, as [`Kept::notice`].
    pub(super) fn notice(&mut self, file: &VassalFile, there: FileId) -> Option<&'static str> {
        self.by_file.get_mut(file)?.sockets.as_mut()?.notice(there)
    }

    /// The sockets of a vassal whose files were removed, as [`Kept::newly_removed`].
    pub(super) fn newly_removed(&mut self, file: &VassalFile) -> Vec<&SocketId> {
        let kept = self.by_file.get_mut(file).and_then(|handle| handle.sockets.as_mut());
        kept.map(|kept| kept.newly_removed()).unwrap_or_default()
    }

    /// Calls `act` with the kept sockets of a vassal.
    pub(super) fn with_kept<T>(&mut self, file: &Rc<VassalFile>, act: impl FnOnce(&mut Kept) -> T) -> T {
        let mut kept = self.handle(file).sockets.take().unwrap_or_default();
        self.sockets -= kept.count();
        let result = act(&mut kept);
        let count = kept.count();
        self.sockets += count;
        self.left.append(kept.take_left());
        self.handle(file).sockets = (count > 0).then_some(kept);
        result
    }

    fn handle(&mut self, file: &Rc<VassalFile>) -> &mut Handle {
        self.by_file.get_or_insert(file)
    }

    /// Gives the kept sockets of a vassal to another one.
    pub(super) fn hand_over_sockets(&mut self, from: &Rc<VassalFile>, to: &Rc<VassalFile>) {
        self.stop_polling(from);
        let sockets = self.with_kept(from, std::mem::take);
        self.with_kept(to, |kept| kept.become_those(sockets));
    }

    /// Closes the sockets that are no longer kept, so that others can listen at their addresses.
    pub(super) fn close_left(&mut self) {
        self.left.close();
    }

    /// Closes the sockets that are no longer kept. Returns the files of those closed since the last call.
    pub(super) fn take_left(&mut self) -> Vec<LeftFile> {
        self.left.close();
        std::mem::take(&mut self.left.files)
    }

    /// Adds the process of an instance. Its packets are reported from now on.
    ///
    /// # Errors
    /// As [`Process::watch_link`]. The process then ends, because its link is closed.
    pub(super) fn add_process(&mut self, id: &InstanceId, process: Process) -> Result<()> {
        process.watch_link(&self.events)?;
        self.by_pid.insert(process.number(), id.clone());
        let processes = &mut self.handle(&id.file).processes;
        // Most vassals have one, and a vector would begin with room for four.
        processes.reserve_exact(1);
        processes.push((id.number, process));
        Ok(())
    }

    /// Removes the process of an instance, and closes its link.
    pub(super) fn take_process(&mut self, id: &InstanceId) -> Option<Process> {
        let processes = &mut self.by_file.get_mut(&id.file)?.processes;
        let index = processes.iter().position(|(number, _)| *number == id.number)?;
        let (_, mut process) = processes.swap_remove(index);
        self.by_pid.remove(&process.number());
        process.close_link(&self.events);
        Some(process)
    }

    /// Notes the FUSE connections of an instance, which may keep it from ending later. Called after its
    /// messages, because it may have mounted a filesystem before them.
    pub(super) fn note_fuse(&mut self, id: &InstanceId, fusectl: &Fusectl) {
        if let Some(process) = self.process_mut(id)
            && let Some(noted) = fuse::note(fusectl, process.pid)
        {
            process.noted = noted;
        }
    }

    /// Takes the next packet from the link of an instance.
    pub(super) fn receive(&mut self, id: &InstanceId) -> Packet {
        let process = self.by_file.get_mut(&id.file).and_then(|handle| handle.process_mut(id.number));
        process.map_or(Packet::Nothing, |process| process.receive(&self.events))
    }

    /// Takes in which sockets an instance uses, as it says. Those that no instance uses are given up.
    pub(super) fn retain(&mut self, id: &InstanceId, ids: Vec<SocketId>) {
        if let Some(process) = self.process_mut(id) {
            process.sockets = Some(ids);
        }
        self.give_up_unused(&id.file);
    }

    /// Keeps one more socket, which an instance uses.
    ///
    /// # Errors
    /// EMFILE: its vassal has too many.
    pub(super) fn keep_socket(&mut self, id: &InstanceId, socket: KeptSocket) -> Result<()> {
        let Some(process) = self.process_mut(id) else { return Ok(()) };
        let user = process.user();
        if let Some(sockets) = &mut process.sockets {
            sockets.push(socket.id.clone());
        }
        self.with_kept(&id.file, |kept| kept.keep(socket, user)).context("keep", "one more socket")
    }

    /// Gives up the kept sockets of a vassal that no instance uses. If there is no instance, the next one may
    /// use them.
    pub(super) fn give_up_unused(&mut self, file: &Rc<VassalFile>) {
        let processes = self.by_file.get(file).map(|handle| &*handle.processes).unwrap_or_default();
        let mut used = Vec::new();
        for (_, process) in processes {
            // One that has not said so may use all of them.
            let Some(sockets) = &process.sockets else { return };
            used.extend(sockets.iter().cloned());
        }
        if !processes.is_empty() {
            self.with_kept(file, |kept| kept.retain(&used));
        }
    }

    /// Polls the on-demand socket of a vassal for the first connection.
    ///
    /// # Errors
    /// The socket was lost in an upgrade; ENOMEM, ENOSPC at the user's limit of watches (epoll_ctl(2)).
    pub(super) fn poll(&mut self, file: &Rc<VassalFile>) -> Result<()> {
        self.stop_polling(file);
        let Some((_, socket)) = self.kept(file).and_then(Kept::demand) else {
            return Err(Error::new("wait for", "a connection", "the socket is lost"));
        };
        let number = socket.as_raw_fd();
        let data = epoll::EventData::new_u64(ON_DEMAND | number as u64);
        epoll::add(&self.events, socket, data, epoll::EventFlags::IN).context("wait for", "a connection")?;
        self.by_polled_fd.insert(number, Rc::clone(file));
        if let Some(handle) = self.by_file.get_mut(file) {
            handle.polled_fd = Some(number);
        }
        Ok(())
    }

    /// Stops polling the on-demand socket. The registration is removed explicitly: an instance has the
    /// socket, too, which would keep the registration alive.
    pub(super) fn stop_polling(&mut self, file: &VassalFile) {
        let Some(handle) = self.by_file.get_mut(file) else { return };
        if let Some((number, (_, socket))) =
            handle.polled_fd.take().zip(handle.sockets.as_ref().and_then(|kept| kept.demand()))
        {
            let _ = epoll::delete(&self.events, socket);
            self.by_polled_fd.remove(&number);
        }
    }

    /// Closes all descriptors of a vassal.
    pub(super) fn remove(&mut self, file: &VassalFile) {
        self.stop_polling(file);
        if let Some(mut handle) = self.by_file.remove(file) {
            for (_, process) in &mut handle.processes {
                self.by_pid.remove(&process.number());
                process.close_link(&self.events);
            }
            if let Some(mut kept) = handle.sockets.take() {
                self.sockets -= kept.count();
                kept.close();
                kept.close_demand();
                self.left.append(kept.take_left());
            }
        }
    }
}

impl AsFd for Handles {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}
