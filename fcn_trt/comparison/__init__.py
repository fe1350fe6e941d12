"""Two stages of a model beside each other: what one labels, and what the other does.

Read in this order: predictor, images, measure, thresholds, pictures, summary,
html_page, markdown_page, page.
"""
