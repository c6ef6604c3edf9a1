"""Networks: families, loading, adapters, sharding."""
