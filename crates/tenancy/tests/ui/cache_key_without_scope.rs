//! A cache key comes from a scope, so that it cannot forget the tenant.

fn main() {
    let _ = tenancy::CacheKey([0; 32]);
    let _ = tenancy::CacheSalt([0; 43]);
}
