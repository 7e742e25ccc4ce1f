/*! Who called sudo: the user the command runs as. */

use std::ffi::{CString, OsStr, OsString};

use anyhow::{Context as _, anyhow};
use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist, setgid, setgroups, setuid};

/// A user to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    environment: Vec<(&'static str, OsString)>,
}

impl Caller {
    /// The user who called sudo, when this process is root by it.
    ///
    /// # Errors
    /// When sudo's variables or the user database do not say who it is.
    pub(super) fn of_sudo() -> anyhow::Result<Option<Self>> {
        let variable = std::env::var_os;
        let (Some(uid), Some(gid)) = (variable("SUDO_UID"), variable("SUDO_GID")) else {
            return Ok(None);
        };
        if !geteuid().is_root() {
            return Ok(None);
        }
        let uid = Uid::from_raw(id("SUDO_UID", &uid)?);
        let gid = Gid::from_raw(id("SUDO_GID", &gid)?);
        if uid.is_root() {
            return Ok(None);
        }
        Self::new(uid, gid).map(Some)
    }

    fn new(uid: Uid, gid: Gid) -> anyhow::Result<Self> {
        let user = User::from_uid(uid)
            .with_context(|| format!("cannot look up the user {uid} who called sudo"))?;
        // A user without a name, as containers have them, is in no further group.
        let Some(user) = user else {
            return Ok(Self {
                uid,
                gid,
                groups: vec![gid],
                environment: Vec::new(),
            });
        };
        let name = CString::new(user.name.as_str()).context("a user's name has a zero byte")?;
        let groups = getgrouplist(&name, gid)
            .with_context(|| format!("cannot look up the groups of {}", user.name))?;
        let name = OsString::from(user.name);
        let environment = vec![
            ("HOME", user.dir.into_os_string()),
            ("LOGNAME", name.clone()),
            ("USER", name),
        ];
        Ok(Self {
            uid,
            gid,
            groups,
            environment,
        })
    }

    /// The variables that sudo set for root.
    pub(super) fn environment(&self) -> impl Iterator<Item = (&'static str, &OsStr)> {
        let variables = self.environment.iter();
        variables.map(|(name, value)| (*name, value.as_os_str()))
    }

    /// The user's id, and that of the primary group.
    pub(super) fn ids(&self) -> (Uid, Gid) {
        (self.uid, self.gid)
    }

    /// Makes this process the user's, for good. Allocates nothing.
    pub(super) fn become_it(&self) -> nix::Result<()> {
        setgroups(&self.groups)?;
        setgid(self.gid)?;
        setuid(self.uid)
    }
}

fn id(name: &str, value: &OsStr) -> anyhow::Result<u32> {
    let text = value.to_string_lossy();
    text.parse().map_err(|_| {
        anyhow!(
            "{name} is {text:?} and no number, so it is not known for whom to run the command; \
             unset it, or give --as-root"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use nix::unistd::{Gid, Uid};

    use super::{Caller, id};

    #[test]
    fn a_user_without_a_name_has_one_group_and_no_home() {
        let (uid, gid) = (Uid::from_raw(4_000_000_001), Gid::from_raw(4_000_000_002));
        let caller = Caller::new(uid, gid).unwrap();
        assert_eq!(caller.groups, [gid]);
        assert_eq!(caller.environment().count(), 0);
    }

    #[test]
    fn a_user_with_a_name_has_a_home() {
        let caller = Caller::new(Uid::from_raw(0), Gid::from_raw(0)).unwrap();
        let home = caller.environment().find(|(name, _)| *name == "HOME");
        assert!(home.is_some());
        assert!(caller.groups.contains(&Gid::from_raw(0)));
    }

    #[test]
    fn an_id_that_is_none_is_named() {
        assert_eq!(id("SUDO_UID", OsStr::new("1000")).unwrap(), 1000);
        for bad in ["", "-1", "alice", "4294967296"] {
            let said = id("SUDO_UID", OsStr::new(bad)).unwrap_err().to_string();
            assert!(
                said.contains("SUDO_UID") && said.contains("--as-root"),
                "{said}"
            );
        }
    }
}
