"""Reports of runs: HTML pages, figures and tables. No internet access is needed.

    python -m affect_jax.report runs/weighted --out page.html              # one run, from its files
    python -m affect_jax.report runs/weighted runs/resnet18 --out page.html  # compare several runs
    python -m affect_jax.report.tables a=runs/a b=b.csv --out tables/  # Markdown, LaTeX, CSV

`run_page.write_report` writes `report.html` and `figures/`. `evaluation_page`, the only module here
that needs JAX, adds images of faces and Grad-CAM for `--mode=evaluate`. A page is one
self-contained file that opens from disk.
"""
