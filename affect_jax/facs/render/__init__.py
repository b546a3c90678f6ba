"""Parts of a drawn face; `affect_jax.facs.render` puts them together."""
