"""The paper's experiments: methods compared over pairs, batch sizes and trials of λ.

``config`` says what a grid is made of, ``plan`` lists its cells, ``run`` runs those
that are missing, one JSON line each. From the lines alone, half a grid's too,
``choose`` takes each method's best trial by validation accuracy, ``compare`` takes
differences, ``tables``, ``figures`` and ``traces`` show them, and ``report`` puts them
into a document, which ``page`` makes an HTML page. ``command`` is the command line.
"""
