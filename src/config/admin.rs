//! The table `[admin]`: where the operator's endpoints listen, and who may use them.

use std::path::Path;

use super::listen::Listen;
use super::mistake::Mistake;
use super::section::{Found, Section, string};
use super::settings::value_or;

/// The operator's endpoints.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct AdminSettings {
    /// Their listeners; `None` where the file leaves them to the service manager.
    pub listen: Option<Vec<Listen>>,
    /// The ids of users who may reload and change the log level, besides root and mtlsd's own.
    pub allow_users: Vec<u32>,
    /// Whether other machines may GET `/livez`, `/readyz` and `/metrics`.
    pub expose: bool,
}

/// Returns the number of a user, given by name or by number.
fn user_id(text: &str) -> Result<u32, String> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    match nix::unistd::User::from_name(text) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(format!("there is no user \"{text}\" on this machine")),
        Err(error) => Err(format!("cannot look up the user \"{text}\": {error}")),
    }
}

/// Reads the table. The listeners come with their places, to be told apart from those of bindings.
pub fn admin_settings(
    mut section: Section<'_, '_>,
    directory: &Path,
) -> (AdminSettings, Vec<Found<Listen>>) {
    let listen = section.list("listen", |text| Listen::parse(text, directory));
    let expose = value_or(section.boolean("expose"), false);
    for found in listen.iter().flatten() {
        if !expose && !found.value.is_local() {
            let message = format!("{} is open to other machines", found.value);
            section.mistake(Mistake::new(found.place.clone(), message).help(
                "listen on localhost or on a unix socket, or add `expose = true`, which lets other \
                 machines read /livez, /readyz and /metrics",
            ));
        }
    }
    let allow_users = section.get("allow_users", |value| {
        let users = match value.as_array() {
            Some(users) => users.iter().map(|user| user.get_ref()).collect(),
            None => vec![value],
        };
        users
            .into_iter()
            .map(|user| match user.as_integer() {
                Some(id) => user_id(id.as_str()),
                None => user_id(string(user)?),
            })
            .collect::<Result<Vec<_>, _>>()
    });
    section.finish();
    let values = |found: &Vec<Found<Listen>>| found.iter().map(|f| f.value.clone()).collect();
    let settings = AdminSettings {
        listen: listen.as_ref().map(values),
        allow_users: value_or(allow_users, Vec::new()),
        expose,
    };
    (settings, listen.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_or_numbered() {
        assert_eq!(user_id("root"), Ok(0));
        assert_eq!(user_id("65532"), Ok(65532));
        let error = user_id("no-such-user").unwrap_err();
        assert!(error.contains("no user"), "{error}");
    }
}
