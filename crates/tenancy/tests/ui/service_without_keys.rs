//! The platform's identity needs the platform's unlocked keys.

fn main() {
    let _ = tenancy::ServiceIdentity { _unlocked: () };
}
