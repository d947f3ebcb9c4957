//! The admin API: onboarding, publishing configuration, usage and audit reads.
