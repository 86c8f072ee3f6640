"""What a team spends on models: read from the exports of others, reported together with what went through the gateway,
and priced under another policy. One external format per module (`formats` lists them); `importer` streams a file into
rows, `whatif` asks what Auto would have cost."""
