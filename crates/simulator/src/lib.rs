//! An engine that behaves: OpenAI endpoints, token timing, a salted prefix cache, faults.
