"""Keys and values in room that is set aside once, for decoding whose length is known.

``DynamicCache`` copies everything that it holds with every token. Here a token writes its own row
and nothing else is moved; what attention is shown is a view of the rows written so far.
"""

from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedConfig
from transformers.cache_utils import CacheLayerMixin, DynamicLayer


class PreallocatedLayer(CacheLayerMixin):
    """Keys and values of one block, [B, H, T, D], T at most ``capacity``.

    Args:
        capacity: Tokens that there is room for.
    """

    is_sliding = False

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Sets room aside, of the shape, type and device of the first states."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = self._room_for(key_states), self._room_for(value_states)
        self.is_initialized = True

    def _room_for(self, states: Tensor) -> Tensor:
        batch, heads, _, width = states.shape
        return states.new_empty(batch, heads, self.capacity, width)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Writes the states of new tokens and returns views of all states so far.

        Raises:
            ValueError: If there is no room left.
        """
        if self.keys is None or self.values is None:
            self.lazy_initialization(key_states, value_states)
            return self.update(key_states, value_states)
        start, end = self.length, self.length + key_states.shape[-2]
        if end > self.capacity:
            raise ValueError(f"the cache has room for {self.capacity} tokens, not for {end}")
        self.keys[:, :, start:end] = key_states
        self.values[:, :, start:end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Returns how many keys the next tokens see, themselves included, and where they begin."""
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        """Returns how many tokens are held."""
        return self.length

    def get_max_length(self) -> int:
        """Returns the capacity."""
        return self.capacity

    def reset(self) -> None:
        """Forgets all tokens; the room stays."""
        self.length = 0


def preallocated_cache(config: PreTrainedConfig, capacity: int) -> Cache:
    """Returns an empty cache with room for ``capacity`` tokens a row.

    Where a block looks back through a window alone, all is kept nevertheless, and the mask hides
    what lies before the window. A model with blocks that keep a running state has transformers'
    own cache.

    Args:
        config: The model's.
        capacity: Tokens a row, padding included.
    """
    own = DynamicCache(config=config)
    if not keeps_every_token(config):
        return own
    return Cache(layers=[PreallocatedLayer(capacity) for _ in own.layers])


def keeps_every_token(config: PreTrainedConfig) -> bool:
    """Tells whether every block attends to keys and values, and none keeps a running state."""
    layers = DynamicCache(config=config).layers
    return all(isinstance(layer, DynamicLayer) for layer in layers)
