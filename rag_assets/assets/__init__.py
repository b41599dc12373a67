"""The asset graph, one file for each asset, in flow order.

source_files → parsed_documents → chunks → embeddings → collection → live_alias.
"""
