//! One error type: what was attempted, on what, and why it failed.
//!
//! An [`Error`] is built where the operation is known and printed once, by whoever decides what happens
//! next. Code in between passes it on unchanged.

use std::fmt;

use rustix::io::Errno;

/// A failed operation: `operation object: cause`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    subject: String,
    cause: Cause,
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The kernel said no.
    Os(Errno),
    /// We said no; the text is the reason.
    Because(String),
}

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An operation that failed on `object` for a reason of our own.
    pub fn new(operation: &str, object: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self::build(operation, &object, Cause::Because(reason.to_string()))
    }

    /// A system call that failed on `object`.
    pub fn os(operation: &str, object: impl fmt::Display, errno: Errno) -> Self {
        Self::build(operation, &object, Cause::Os(errno))
    }

    /// One copy for all types of objects: this is called from everywhere.
    #[inline(never)]
    fn build(operation: &str, object: &dyn fmt::Display, cause: Cause) -> Self {
        Self { subject: format!("{operation} {object}"), cause }
    }

    /// For another process of ours, which makes it an error again with [`Error::from_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.errno().to_le_bytes().to_vec();
        bytes.extend(self.subject.as_bytes());
        if let Cause::Because(reason) = &self.cause {
            bytes.push(0);
            bytes.extend(reason.as_bytes());
        }
        bytes
    }

    /// Reads what [`Error::to_bytes`] wrote; `None` for anything shorter.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (errno, text) = bytes.split_first_chunk::<4>()?;
        let text = String::from_utf8_lossy(text);
        Some(match (i32::from_le_bytes(*errno), text.split_once('\0')) {
            (0, Some((subject, reason))) => {
                Self { subject: subject.to_owned(), cause: Cause::Because(reason.to_owned()) }
            }
            (errno, _) => {
                Self { subject: text.into_owned(), cause: Cause::Os(Errno::from_raw_os_error(errno)) }
            }
        })
    }

    /// The kernel's error number, 0 when the reason was ours.
    pub fn errno(&self) -> i32 {
        match self.cause {
            Cause::Os(errno) => errno.raw_os_error(),
            Cause::Because(_) => 0,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Os(errno) => write!(f, "{}: {}", self.subject, Described(*errno)),
            Cause::Because(reason) => write!(f, "{}: {reason}", self.subject),
        }
    }
}

impl std::error::Error for Error {}

/// Adds operation and object to the error of a system call.
pub trait Context<T> {
    /// `operation object: cause`; `object` is only rendered on failure.
    fn context(self, operation: &str, object: impl fmt::Display) -> Result<T>;
}

// Never inlined: there are hundreds of calls, and all of them are for the day that something fails.
impl<T> Context<T> for rustix::io::Result<T> {
    #[inline(never)]
    fn context(self, operation: &str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|errno| Error::os(operation, object, errno))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    #[inline(never)]
    fn context(self, operation: &str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|error| {
            let errno = Errno::from_io_error(&error);
            let cause = errno.map_or_else(|| Cause::Because(error.to_string()), Cause::Os);
            Error::build(operation, &object, cause)
        })
    }
}

/// An error number as people search for it: `No such file or directory (ENOENT)`.
pub struct Described(pub Errno);

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from_raw_os_error(self.0.raw_os_error()).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        match name(self.0) {
            Some(name) => write!(f, "{text} ({name})"),
            None => write!(f, "{text} (errno {})", self.0.raw_os_error()),
        }
    }
}

/// The C name of the error numbers that mounts, files and processes produce (errno(3)).
pub fn name(errno: Errno) -> Option<&'static str> {
    macro_rules! names {
        ($($constant:ident $name:literal)*) => {
            match errno { $(Errno::$constant => Some($name),)* _ => None }
        };
    }
    names! {
        PERM "EPERM" NOENT "ENOENT" SRCH "ESRCH" INTR "EINTR" IO "EIO" NXIO "ENXIO" TOOBIG "E2BIG"
        NOEXEC "ENOEXEC" BADF "EBADF" CHILD "ECHILD" AGAIN "EAGAIN" NOMEM "ENOMEM" ACCESS "EACCES"
        FAULT "EFAULT" NOTBLK "ENOTBLK" BUSY "EBUSY" EXIST "EEXIST" XDEV "EXDEV" NODEV "ENODEV"
        NOTDIR "ENOTDIR" ISDIR "EISDIR" INVAL "EINVAL" NFILE "ENFILE" MFILE "EMFILE" NOTTY "ENOTTY"
        TXTBSY "ETXTBSY" FBIG "EFBIG" NOSPC "ENOSPC" ROFS "EROFS" PIPE "EPIPE" LOOP "ELOOP"
        NAMETOOLONG "ENAMETOOLONG" NOSYS "ENOSYS" NOTEMPTY "ENOTEMPTY" STALE "ESTALE" TIMEDOUT "ETIMEDOUT"
        NOTCONN "ENOTCONN" CONNABORTED "ECONNABORTED" CONNREFUSED "ECONNREFUSED" ADDRINUSE "EADDRINUSE"
        USERS "EUSERS" OPNOTSUPP "EOPNOTSUPP" OVERFLOW "EOVERFLOW" HOSTDOWN "EHOSTDOWN"
        CONNRESET "ECONNRESET"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_operation_object_and_cause() {
        let error = Error::os("mount", "/app", Errno::NOTCONN);
        assert_eq!(error.to_string(), "mount /app: Transport endpoint is not connected (ENOTCONN)");
        assert_eq!(error.errno(), Errno::NOTCONN.raw_os_error());
        assert_eq!(Error::from_bytes(&error.to_bytes()), Some(error));
        let error = Error::new("read", "x.ini", "larger than 1 MiB");
        assert_eq!(Error::from_bytes(&error.to_bytes()).as_ref(), Some(&error));
        assert_eq!((error.to_string().as_str(), error.errno()), ("read x.ini: larger than 1 MiB", 0));
    }
}
