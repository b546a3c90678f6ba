"""From a run's numbers and pictures to pages, figures and tables; no network, no JAX.

    python -m affect_jax.report runs/weighted --out page.html              # one run, from its files
    python -m affect_jax.report runs/weighted runs/resnet18 --out page.html  # several, compared
    python -m affect_jax.report.tables weighted=runs/weighted --out tables/  # the paper's tables

`page.write` makes `report.html` and `figures/`; `--mode=evaluate` calls it with the pictures of
faces that only the data set and the network can give. A page is one file that opens from disk.
"""
